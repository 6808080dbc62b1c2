#!/usr/bin/env python3
"""cumega's EMA beside ESPnet's own module in PyTorch and a memcpy of the same bytes.

All three run in one process, on the same arrays, in alternation: whatever the machine does at the
moment, each of a triple meets it. First the results are compared; nothing is timed that differs.
ESPnet's module is what a user calls: MultiHeadDampedEMA in eval mode, float32, eager, under
torch.inference_mode(), with as many torch threads as the context has. cumega is called through
ctypes, which costs about a microsecond a call and is left in cumega's time. The memcpy is libc's,
by one thread.

Exit status: 0; 1 wrong results; 77 torch or ESPnet is missing (benchmarks/peers/install gets them).
"""

import argparse
import copy
import ctypes
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time

from library import Context, Ema, Library

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROUNDOFF = 2.0**-24
SAMPLE_SECONDS = 1e-3  # a sample repeats a call until it is at least this long


def import_peers():
    try:
        import torch
        from espnet import __version__ as espnet_version
        from espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema import (
            MultiHeadDampedEMA,
        )
    except (ImportError, OSError) as error:
        print(f"skipped: {error}; benchmarks/peers/install makes an environment", file=sys.stderr)
        sys.exit(77)
    return torch, espnet_version, MultiHeadDampedEMA


torch, espnet_version, MultiHeadDampedEMA = import_peers()
ACTIVATIONS = {"relu": torch.nn.ReLU(), "swish": torch.nn.SiLU()}


class Row:
    """One operation of one shape: its arrays, the three that are timed, and the bytes they move."""

    def __init__(self, settings, library, op, activation, threads):
        self.op, self.activation, self.threads = op, activation, threads
        self.length, self.batch, self.channels = settings.shape
        self.heads = settings.heads
        if op == "step":
            self.length = 1
        torch.manual_seed(0)
        module = MultiHeadDampedEMA(self.channels, self.heads, ACTIVATIONS[activation])
        self.module = module.eval()
        self.x = torch.randn(self.length, self.batch, self.channels)
        self.y = torch.full_like(self.x, math.nan)
        self.pairs = [(self.y, self.x)]
        self.state, self.final = None, None
        tensors = {"x": self.x, "y": self.y}
        if op == "step":
            self.state = torch.randn(self.batch, self.channels, self.heads)
            self.final = torch.full_like(self.state, math.nan)
            tensors.update(initial_state=self.state, final_state=self.final)
            self.pairs.append((self.final, self.state))
        self.bytes = 2 * sum(source.nbytes for _, source in self.pairs)
        self.context = Context(library, threads)
        self.ema = Ema(self.context, module, activation)
        self.run_cumega = self.ema.prepare(op, **tensors)

    def run_espnet(self):
        state = None if self.state is None else {"ema_state": self.state}
        return self.module(self.x, state=state)

    def copies(self):
        """libc's memcpy of the same bytes, all arguments ready."""
        memcpy = ctypes.CDLL(None).memcpy
        memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        memcpy.restype = None
        parts = [
            (
                ctypes.c_void_p(to.data_ptr()),
                ctypes.c_void_p(source.data_ptr()),
                ctypes.c_size_t(source.nbytes),
            )
            for to, source in self.pairs
        ]

        def run():
            for part in parts:
                memcpy(*part)

        return run

    def close(self):
        self.ema.close()
        self.context.close()


def allowed_in_forward(row, module):
    """The largest difference that the two ways of computing explain.

    ESPnet's forward is three Fourier transforms of n = 2L numbers. Each has a relative error of at
    most 7 u log2(n) in the 2-norm (Higham, Accuracy and Stability of Numerical Algorithms, 24.1),
    so an element of the convolution is off by at most 7 u log2(n) (2 |k|_2 + |k|_1) |x|_2. A term
    of its kernel, exp(l log q), is relatively off by l |log q| u + l u / q + a few u; weighted with
    q^l that is below 2 u / (1 - q) + 8 u of |k| |x|_max, the magnitudes summed over heads. cumega's
    own error is below 8 u + u / (1 - q) of the same.
    """
    p, q = module.compute_ema_coefficients()
    gain = (p * module.ema_expansion_matrix)[..., 0]
    weight = module.scaling * module.kernel_projection_matrix * gain
    magnitude = (weight.abs() / (1 - q[..., 0])).sum(dim=1).max().item() * row.x.abs().max().item()
    kernel = module.compute_ema_kernel(row.length)
    k2, k1 = kernel.norm(dim=1).max().item(), kernel.abs().sum(dim=1).max().item()
    x2 = row.x.double().norm(dim=0).max().item()
    slowness = (1 / (1 - q)).max().item()
    transforms = 7 * math.log2(2 * row.length) * (2 * k2 + k1) * x2
    return ROUNDOFF * (transforms + (16 + 3 * slowness) * magnitude)


def allowed_in_step(row, module):
    """Both sides round a dozen products and sums, each below the sum of the magnitudes; of p and q,
    ESPnet's are off by a few u."""
    p, q = module.compute_ema_coefficients()
    gain = (p * module.ema_expansion_matrix)[..., 0].abs()
    state = gain * row.x.abs().max() + q[..., 0] * row.state.abs().max()
    e = (module.scaling * module.kernel_projection_matrix.abs() * state).sum(dim=1)
    return ROUNDOFF * 32 * max(state.max().item(), e.max().item())


def check(row):
    """The largest difference of both answers, and the largest allowed. The residual and its sum add
    four roundings, and swish enlarges an error by at most 1.1."""
    with torch.inference_mode():
        row.run_cumega()
        theirs, their_state = row.run_espnet()
        module = copy.deepcopy(row.module).double()
        of_op = allowed_in_forward if row.op == "forward" else allowed_in_step
        largest = (module.residual_weight.abs().max() * row.x.abs().max()).item()
        largest += theirs.abs().max().item()
        allowed = 1.1 * of_op(row, module) + 8 * ROUNDOFF * largest
        difference = (row.y - theirs).abs().max().item()
        if their_state is not None:
            difference = max(difference, (row.final - their_state).abs().max().item())
    return difference, allowed


def sample(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def calls_of(call):
    sample(call, 1)
    once = sample(call, 1)
    return max(1, min(100000, math.ceil(SAMPLE_SECONDS / once)))


def measure(row, repeats):
    """Samples of all three in alternation; each is preceded by one call that is not timed."""
    calls = {"copy": row.copies(), "cumega": row.run_cumega, "espnet": row.run_espnet}
    samples = {name: [] for name in calls}
    with torch.inference_mode():
        counts = {name: calls_of(call) for name, call in calls.items()}
        for _ in range(repeats):
            for name, call in calls.items():
                call()
                samples[name].append(sample(call, counts[name]))
    return samples, counts


def seconds(samples, count):
    median = statistics.median(samples)
    return {
        "median": median,
        "min": min(samples),
        "spread": (max(samples) - min(samples)) / median,
        "calls_per_sample": count,
    }


def pairwise(above, below):
    return statistics.median(a / b for a, b in zip(above, below))


def run_row(settings, library, op, activation, threads):
    torch.set_num_threads(threads)
    row = Row(settings, library, op, activation, threads)
    difference, allowed = check(row)
    if not difference <= allowed:
        print(f"wrong: {op} {activation} differs by {difference:g}, allowed {allowed:g}")
        sys.exit(1)
    samples, counts = measure(row, settings.repeats)
    ours, theirs, memcpy = (seconds(samples[n], counts[n]) for n in ("cumega", "espnet", "copy"))
    result = {
        "op": f"ema_{op}",
        "shape": [row.length, row.batch, row.channels],
        "heads": row.heads,
        "activation": activation,
        "dtype": "float32",
        "layout": "LBD",
        "device": "cpu",
        "backend": row.context.backend(),
        "threads": threads,
        "algorithm": "recurrent",
        "repeats": settings.repeats,
        "seconds": ours,
        "peer": "ESPnet MultiHeadDampedEMA, PyTorch eager",
        "peer_seconds": theirs,
        "copy_seconds": memcpy,
        "copy_threads": 1,
        "gb_per_s": 1e-9 * row.bytes / ours["median"],
        "copy_share": pairwise(samples["copy"], samples["cumega"]),
        "faster_by_medians": theirs["median"] / ours["median"],
        "faster_by_pairs": pairwise(samples["espnet"], samples["cumega"]),
        "largest_difference": difference,
        "allowed_difference": allowed,
    }
    row.close()
    return result


def cpu_name():
    fields = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                key, _, value = line.partition(":")
                fields.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    name, family, model = (fields.get(k, "?") for k in ("model name", "cpu family", "model"))
    return f"{name} (family {family}, model {model})"


def describe_machine(settings, library):
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "compiler": settings.compiler,
        "cumega": library.version(),
        "commit": settings.commit,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "espnet": espnet_version,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "load": os.getloadavg()[0],
    }


def seconds_elsewhere():
    """CPU seconds of all other processes, and of the host where this is a virtual machine."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


HEADING = (
    f"{'op':8} {'L,B,D':14} {'activation':10} {'th':>2} {'cumega us':>10} {'min':>10} "
    f"{'ESPnet us':>11} {'min':>11} {'medians':>8} {'pairs':>8} {'GB/s':>6} {'copy':>6} "
    f"{'difference':>10}"
)


def print_row(r):
    shape = ",".join(map(str, r["shape"]))
    print(
        f"{r['op'][4:]:8} {shape:14} {r['activation']:10} {r['threads']:2} "
        f"{1e6 * r['seconds']['median']:10.2f} {1e6 * r['seconds']['min']:10.2f} "
        f"{1e6 * r['peer_seconds']['median']:11.1f} {1e6 * r['peer_seconds']['min']:11.1f} "
        f"{r['faster_by_medians']:7.1f}x {r['faster_by_pairs']:7.1f}x {r['gb_per_s']:6.2f} "
        f"{100 * r['copy_share']:5.1f}% {r['largest_difference']:10.1e}",
        flush=True,
    )


def shape_of(text):
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) != 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError("expected L,B,D")
    return numbers


def threads_of(text):
    return [int(part) for part in text.split(",")]


def read_settings():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", default=os.path.join(ROOT, "build", "src", "libcumega.so"))
    parser.add_argument("--shape", type=shape_of, default=(2048, 8, 512), metavar="L,B,D")
    parser.add_argument("--heads", type=int, default=4, metavar="N")
    parser.add_argument("--threads", type=threads_of, default=[1], metavar="N,N,...")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--commit", default="unknown", help="of the sources, for the JSON")
    parser.add_argument("--compiler", default="unknown", help="the library's, for the JSON")
    return parser.parse_args()


def main():
    settings = read_settings()
    library = Library(settings.library)
    machine = describe_machine(settings, library)
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(HEADING)
    results = []
    start, before = time.perf_counter(), seconds_elsewhere()
    for threads in settings.threads:
        for op in ("forward", "step"):
            for activation in ACTIVATIONS:
                results.append(run_row(settings, library, op, activation, threads))
                print_row(results[-1])
    busy = max(0.0, (seconds_elsewhere() - before) / (time.perf_counter() - start))
    machine["cpus_busy_elsewhere"] = busy
    print(f"{busy:.2f} CPUs were busy elsewhere meanwhile")
    if settings.json:
        with open(settings.json, "w") as file:
            json.dump({"machine": machine, "results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
