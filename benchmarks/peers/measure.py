"""What the peers share: the clocks, the alternation, the table and the JSON.

A case is one operation of one shape: cumega's call, the peer's, and how far apart their answers
may be. All run in one process, on the same arrays, in alternation with a copy of the same bytes:
whatever the machine does at the moment, each of them meets it. First the answers are compared;
nothing is timed that differs. cumega is called through ctypes, which costs about a microsecond a
call and is left in cumega's time. The copy is libc's memcpy by one thread, on a GPU torch's copy_,
between memory of its own. On a GPU everything is enqueued on torch's stream and timed by its
events.
"""

import argparse
import ctypes
import dataclasses
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time
import typing

from library import Context, Library

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
except (ImportError, OSError) as error:
    espnet_version = f"none: {error}"


@dataclasses.dataclass
class Case:
    row: dict  # op, shape and settings, as the results have them
    context: Context
    ours: typing.Callable
    peer: str  # whose implementation it is
    theirs: typing.Callable
    compiled: typing.Optional[typing.Callable]  # returns what torch.compile makes of it
    bytes: int  # read and written
    check: typing.Callable  # the largest difference, and what both methods can explain
    close: typing.Callable


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


def context_on(library, device, threads):
    """A context; on a GPU it uses torch's stream."""
    stream = None
    if device != "cpu":
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream().cuda_stream
    return Context(library, threads, device, stream)


def copy_of(bytes_moved, device):
    """Returns a copy that reads half of the bytes and writes the other half."""
    half = max(1, bytes_moved // 2)
    source, to = (torch.ones(half, dtype=torch.uint8, device=device) for _ in range(2))
    if device != "cpu":
        return lambda: to.copy_(source)
    memcpy = ctypes.CDLL(None).memcpy
    memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    memcpy.restype = None
    part = (
        ctypes.c_void_p(to.data_ptr()),
        ctypes.c_void_p(source.data_ptr()),
        ctypes.c_size_t(half),
    )
    return lambda keep=(source, to): memcpy(*part)


def calls_of(clock, call):
    clock(call, 1)
    once = clock(call, 1)
    return max(1, min(100000, math.ceil(SAMPLE_SECONDS / once)))


def sample(calls, device, repeats):
    """Samples of all calls, in alternation; one untimed call precedes each sample."""
    samples = {name: [] for name in calls}
    clock = Clock(device)
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


def working_peers(case, settings):
    """The ways of calling the peer that work here. torch.compile needs a C++ compiler, or Triton
    on a GPU; if that is missing, a message says so and torch.compile is left out."""
    calls = {"eager": case.theirs}
    if settings.compile and case.compiled is not None:
        try:
            calls["compile"] = case.compiled()
            calls["compile"]()
        except Exception as error:  # whatever a compiler may raise
            print(f"torch.compile is left out: {str(error).strip().splitlines()[0]}")
            calls.pop("compile", None)
    return calls


def run_case(case, settings, threads):
    """One result for each way of calling the peer; they alternate with cumega and the copy."""
    difference, allowed = case.check()
    if not difference <= allowed:
        print(f"wrong: {case.row} differs by {difference:g}, allowed {allowed:g}")
        sys.exit(1)
    peers = working_peers(case, settings)
    calls = {"copy": copy_of(case.bytes, settings.device), "cumega": case.ours, **peers}
    samples, counts = sample(calls, settings.device, settings.repeats)
    ours, copied = (seconds(samples[n], counts[n]) for n in ("cumega", "copy"))
    for name in peers:
        theirs = seconds(samples[name], counts[name])
        yield case.row | {
            "dtype": "float32",
            "device": settings.device,
            "backend": case.context.backend(),
            "threads": threads,
            "repeats": settings.repeats,
            "seconds": ours,
            "peer": f"{case.peer}, {name}",
            "peer_seconds": theirs,
            "copy_seconds": copied,
            "copy_threads": 1,
            "bytes": case.bytes,
            "gb_per_s": 1e-9 * case.bytes / ours["median"],
            "copy_share": pairwise(samples["copy"], samples["cumega"]),
            "faster_by_medians": theirs["median"] / ours["median"],
            "faster_by_pairs": pairwise(samples[name], samples["cumega"]),
            "largest_difference": difference,
            "allowed_difference": allowed,
        }


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
    """CPU seconds of all other processes, and of the host if this is a virtual machine."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


def text_of(row):
    """What distinguishes the rows of a table: "2048,8,512 relu"."""
    settings = ("activation", "bias", "mask", "table", "kind", "norm")
    return " ".join(
        [",".join(map(str, row["shape"]))] + [row[key] for key in settings if key in row]
    )


HEADING = (
    f"{'op':22} {'shape and settings':34} {'th':>2} {'cumega us':>10} {'min':>10} {'peer us':>11} "
    f"{'min':>11} {'medians':>8} {'pairs':>8} {'GB/s':>6} {'copy':>7} {'difference':>10}  peer"
)


def print_row(r):
    print(
        f"{r['op']:22} {text_of(r):34} {r['threads']:2} "
        f"{1e6 * r['seconds']['median']:10.2f} {1e6 * r['seconds']['min']:10.2f} "
        f"{1e6 * r['peer_seconds']['median']:11.1f} {1e6 * r['peer_seconds']['min']:11.1f} "
        f"{r['faster_by_medians']:7.1f}x {r['faster_by_pairs']:7.1f}x {r['gb_per_s']:6.2f} "
        f"{100 * r['copy_share']:6.1f}% {r['largest_difference']:10.1e}  {r['peer']}",
        flush=True,
    )


def threads_of(text):
    return [int(part) for part in text.split(",")]


def parser_of(document):
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", default=os.path.join(ROOT, "build", "src", "libcumega.so"))
    parser.add_argument("--threads", type=threads_of, default=[1], metavar="N,N,...")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile beside eager")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--commit", default="unknown", help="of the sources, for the JSON")
    parser.add_argument("--compiler", default="unknown", help="the library's, for the JSON")
    return parser


def shape_of(letters):
    """The argparse type of a shape."""

    def read(text):
        numbers = tuple(int(part) for part in text.split(","))
        if len(numbers) != len(letters.split(",")) or min(numbers) < 1:
            raise argparse.ArgumentTypeError(f"expected {letters}")
        return numbers

    return read


def run(settings, cases):
    """`cases` are functions of (settings, library, threads); each makes a Case."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        skip("torch finds no CUDA device")
    if settings.device == "cuda":  # a context does not accept the default stream
        torch.cuda.set_stream(torch.cuda.Stream())
    library = Library(settings.library)
    machine = describe_machine(settings, library)
    for key, value in machine.items():
        print(f"{key}: {value}")
    print(HEADING)
    results = []
    start, before = time.perf_counter(), seconds_elsewhere()
    with torch.inference_mode():
        for threads in settings.threads:
            torch.set_num_threads(threads)
            for make in cases:
                case = None
                try:
                    case = make(settings, library, threads)
                    for result in run_case(case, settings, threads):
                        results.append(result)
                        print_row(result)
                except torch.cuda.OutOfMemoryError:
                    what = case.row if case else "a case"
                    print(f"{what}: the peer needs more memory than there is")
                finally:
                    if case is not None:
                        case.close()
    busy = max(0.0, (seconds_elsewhere() - before) / (time.perf_counter() - start))
    machine["cpus_busy_elsewhere"] = busy
    print(f"{busy:.2f} CPUs were busy elsewhere meanwhile")
    if settings.json:
        with open(settings.json, "w") as file:
            json.dump({"machine": machine, "results": results}, file, indent=1)
            file.write("\n")
