#!/usr/bin/env python3
"""cumega's EMA beside ESPnet's own module in PyTorch and a copy of the same bytes.

All run in one process, on the same arrays, in alternation: whatever the machine does at the moment,
each of them meets it. First the results are compared; nothing is timed that differs. ESPnet's
module is what a user calls: MultiHeadDampedEMA in eval mode, float32, under torch.inference_mode(),
with as many torch threads as the context has: eager, and with --compile through torch.compile too.
Where only torch is installed, the same formulas in plain torch take its place (formulas.py), and
the result says so. cumega is called through ctypes, which costs about a microsecond a call and is
left in cumega's time. The copy is libc's memcpy by one thread, on a GPU torch's copy_.

On a GPU (--device cuda) everything is enqueued on torch's stream and timed by its events.

Exit status: 0; 1 wrong results; 77 torch is missing (benchmarks/peers/install gets it) or there is
no such device.
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


def skip(reason):
    print(f"skipped: {reason}", file=sys.stderr)
    sys.exit(77)


try:
    import torch
except (ImportError, OSError) as error:
    skip(f"{error}; benchmarks/peers/install makes an environment with PyTorch")

try:
    from espnet import __version__ as espnet_version
    from espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema import (
        MultiHeadDampedEMA as PeerEma,
    )

    PEER = "ESPnet's MultiHeadDampedEMA"
except (ImportError, OSError) as error:
    from formulas import PlainEma as PeerEma

    espnet_version = f"none: {error}"
    PEER = "ESPnet's formulas in plain PyTorch"

ACTIVATIONS = {"relu": torch.nn.ReLU(), "swish": torch.nn.SiLU()}


class Clock:
    """Seconds of `count` calls: by the host's clock on a CPU, by the stream's events on a GPU."""

    def __init__(self, device):
        self.on_gpu = device != "cpu"
        if self.on_gpu:
            self.first, self.last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, call, count):
        if not self.on_gpu:
            start = time.perf_counter()
            for _ in range(count):
                call()
            return (time.perf_counter() - start) / count
        self.first.record()
        for _ in range(count):
            call()
        self.last.record()
        self.last.synchronize()
        return 1e-3 * self.first.elapsed_time(self.last) / count


class Row:
    """One operation of one shape: its arrays, the three that are timed, and the bytes they move."""

    def __init__(self, settings, library, op, activation, threads):
        self.op, self.activation, self.threads = op, activation, threads
        self.length, self.batch, self.channels = settings.shape
        self.heads = settings.heads
        if op == "step":
            self.length = 1
        torch.manual_seed(0)
        module = PeerEma(self.channels, self.heads, ACTIVATIONS[activation])
        self.device = settings.device
        self.module = module.eval().to(self.device)
        self.x = torch.randn(self.length, self.batch, self.channels, device=self.device)
        self.y = torch.full_like(self.x, math.nan)
        self.pairs = [(self.y, self.x)]
        self.state, self.final = None, None
        tensors = {"x": self.x, "y": self.y}
        if op == "step":
            self.state = torch.randn(self.batch, self.channels, self.heads, device=self.device)
            self.final = torch.full_like(self.state, math.nan)
            tensors.update(initial_state=self.state, final_state=self.final)
            self.pairs.append((self.final, self.state))
        self.bytes = 2 * sum(source.nbytes for _, source in self.pairs)
        stream = None
        if self.device != "cpu":
            torch.cuda.synchronize()
            stream = torch.cuda.current_stream().cuda_stream
        self.context = Context(library, threads, self.device, stream)
        self.ema = Ema(self.context, copy.deepcopy(module).cpu(), activation)
        self.run_cumega = self.ema.prepare(op, **tensors)

    def run_peer(self, module=None):
        state = None if self.state is None else {"ema_state": self.state}
        module = self.module if module is None else module
        return module(self.x, state=state)

    def peers(self, compiled):
        """What is called, by name: the module as it is, and through torch.compile."""
        calls = {"eager": self.run_peer}
        if compiled:
            module = torch.compile(self.module)
            calls["compile"] = lambda: self.run_peer(module)
        return calls

    def copies(self):
        """A copy of the same bytes, all arguments ready: libc's memcpy, on a GPU torch's copy_."""
        if self.device != "cpu":
            pairs = self.pairs
            return lambda: [to.copy_(source) for to, source in pairs]
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
        theirs, their_state = row.run_peer()
        module = copy.deepcopy(row.module).double()
        of_op = allowed_in_forward if row.op == "forward" else allowed_in_step
        largest = (module.residual_weight.abs().max() * row.x.abs().max()).item()
        largest += theirs.abs().max().item()
        allowed = 1.1 * of_op(row, module) + 8 * ROUNDOFF * largest
        difference = (row.y - theirs).abs().max().item()
        if their_state is not None:
            difference = max(difference, (row.final - their_state).abs().max().item())
    return difference, allowed


def calls_of(clock, call):
    clock(call, 1)
    once = clock(call, 1)
    return max(1, min(100000, math.ceil(SAMPLE_SECONDS / once)))


def measure(row, calls, repeats):
    """Samples of all in alternation; each is preceded by one call that is not timed."""
    samples = {name: [] for name in calls}
    clock = Clock(row.device)
    with torch.inference_mode():
        counts = {name: calls_of(clock, call) for name, call in calls.items()}
        for _ in range(repeats):
            for name, call in calls.items():
                call()
                samples[name].append(clock(call, counts[name]))
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


def working_peers(row, settings):
    """The ways of calling the peer that work here. torch.compile needs a C++ compiler, on a GPU
    Triton; where it has none, that is said and it is left out."""
    calls = row.peers(settings.compile)
    if "compile" in calls:
        try:
            with torch.inference_mode():
                calls["compile"]()
        except Exception as error:  # whatever a compiler may raise
            print(f"torch.compile is left out: {str(error).strip().splitlines()[0]}")
            del calls["compile"]
    return calls


def run_row(settings, library, op, activation, threads):
    """One result for each way of calling the peer; all of them, cumega and the copy alternate."""
    torch.set_num_threads(threads)
    row = Row(settings, library, op, activation, threads)
    difference, allowed = check(row)
    if not difference <= allowed:
        print(f"wrong: {op} {activation} differs by {difference:g}, allowed {allowed:g}")
        sys.exit(1)
    peers = working_peers(row, settings)
    calls = {"copy": row.copies(), "cumega": row.run_cumega, **peers}
    samples, counts = measure(row, calls, settings.repeats)
    ours, memcpy = (seconds(samples[n], counts[n]) for n in ("cumega", "copy"))
    results = []
    for name in peers:
        theirs = seconds(samples[name], counts[name])
        results.append(
            {
                "op": f"ema_{op}",
                "shape": [row.length, row.batch, row.channels],
                "heads": row.heads,
                "activation": activation,
                "dtype": "float32",
                "layout": "LBD",
                "device": settings.device,
                "backend": row.context.backend(),
                "threads": threads,
                "algorithm": "recurrent",
                "repeats": settings.repeats,
                "seconds": ours,
                "peer": f"{PEER}, {name}",
                "peer_seconds": theirs,
                "copy_seconds": memcpy,
                "copy_threads": 1,
                "gb_per_s": 1e-9 * row.bytes / ours["median"],
                "copy_share": pairwise(samples["copy"], samples["cumega"]),
                "faster_by_medians": theirs["median"] / ours["median"],
                "faster_by_pairs": pairwise(samples[name], samples["cumega"]),
                "largest_difference": difference,
                "allowed_difference": allowed,
            }
        )
    row.close()
    return results


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
    gpu = {} if settings.device == "cpu" else {"gpu": torch.cuda.get_device_name()}
    return gpu | {
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
    f"{'peer':8} {'peer us':>11} {'min':>11} {'medians':>8} {'pairs':>8} {'GB/s':>6} {'copy':>6} "
    f"{'difference':>10}"
)


def print_row(r):
    shape = ",".join(map(str, r["shape"]))
    print(
        f"{r['op'][4:]:8} {shape:14} {r['activation']:10} {r['threads']:2} "
        f"{1e6 * r['seconds']['median']:10.2f} {1e6 * r['seconds']['min']:10.2f} "
        f"{r['peer'].split()[-1]:8} {1e6 * r['peer_seconds']['median']:11.1f} {1e6 * r['peer_seconds']['min']:11.1f} "
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
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile beside eager")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--commit", default="unknown", help="of the sources, for the JSON")
    parser.add_argument("--compiler", default="unknown", help="the library's, for the JSON")
    return parser.parse_args()


def main():
    settings = read_settings()
    if settings.device == "cuda" and not torch.cuda.is_available():
        skip("torch finds no CUDA device")
    if settings.device == "cuda":  # the default stream is none that a context can be given
        torch.cuda.set_stream(torch.cuda.Stream())
    library = Library(settings.library)
    machine = describe_machine(settings, library)
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(f"peer: {PEER}")
    print(HEADING)
    results = []
    start, before = time.perf_counter(), seconds_elsewhere()
    for threads in settings.threads:
        for op in ("forward", "step"):
            for activation in ACTIVATIONS:
                for result in run_row(settings, library, op, activation, threads):
                    results.append(result)
                    print_row(result)
    busy = max(0.0, (seconds_elsewhere() - before) / (time.perf_counter() - start))
    machine["cpus_busy_elsewhere"] = busy
    print(f"{busy:.2f} CPUs were busy elsewhere meanwhile")
    if settings.json:
        with open(settings.json, "w") as file:
            json.dump({"machine": machine, "results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
