#!/usr/bin/env python3
"""ESPnet's own EMA module in PyTorch on the GPU, beside what bench_ema_cuda measured on it.

Reads the JSON of bench_ema_cuda and times ESPnet's MultiHeadDampedEMA (eval mode, float32, eager,
torch.inference_mode()) for the same shapes by CUDA events: a median of samples, each after one call
that is not timed. Rows whose spectra do not fit the device's memory are said and left out.

Exit status: 0; 77 torch, ESPnet or the GPU is missing (benchmarks/peers/install gets the first two).
"""

import argparse
import json
import statistics
import sys

REPEATS = 11


def import_peers():
    try:
        import torch
        from espnet import __version__ as espnet_version
        from espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema import (
            MultiHeadDampedEMA,
        )
    except (ImportError, OSError) as error:
        print(f"{error}; benchmarks/peers/install makes an environment")
        sys.exit(77)
    if not torch.cuda.is_available():
        print("PyTorch sees no GPU")
        sys.exit(77)
    return torch, espnet_version, MultiHeadDampedEMA


torch, espnet_version, MultiHeadDampedEMA = import_peers()
ACTIVATIONS = {"relu": torch.nn.ReLU(), "swish": torch.nn.SiLU()}


def seconds_of(call):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    samples = []
    for _ in range(REPEATS):
        call()
        begin.record()
        call()
        end.record()
        end.synchronize()
        samples.append(1e-3 * begin.elapsed_time(end))
    return statistics.median(samples)


def measure(row):
    length, batch, channels = row["shape"]
    module = MultiHeadDampedEMA(channels, row["heads"], ACTIVATIONS[row["activation"]])
    module = module.eval().cuda()
    x = torch.randn(max(length, 1), batch, channels, device="cuda")
    state = None
    if row["op"] == "ema_step":
        state = {"ema_state": torch.randn(batch, channels, row["heads"], device="cuda")}
    with torch.inference_mode():
        return seconds_of(lambda: module(x, state=state))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ours", help="the JSON of bench_ema_cuda")
    parser.add_argument("--json", metavar="FILE")
    settings = parser.parse_args()
    with open(settings.ours) as file:
        ours = json.load(file)
    machine = dict(ours["machine"], torch=torch.__version__, espnet=espnet_version)
    print(f"{machine['device']}, torch {torch.__version__}, ESPnet {espnet_version}")
    results = []
    for row in ours["results"]:
        try:
            theirs = measure(row)
        except torch.cuda.OutOfMemoryError:
            print(f"{row['op']} {row['shape']}: ESPnet's module needs more memory than there is")
            continue
        results.append(dict(row, peer_seconds=theirs, faster=theirs / row["seconds"]))
        print(
            f"{row['op']:12} {str(row['shape']):20} {row['activation']:6} {1e6 * theirs:12.1f} us, "
            f"cumega {1e6 * row['seconds']:10.2f} us, {theirs / row['seconds']:7.1f}x",
            flush=True,
        )
    if settings.json:
        with open(settings.json, "w") as file:
            json.dump({"machine": machine, "results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
