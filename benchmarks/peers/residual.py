#!/usr/bin/env python3
"""cumega's residual connection and layer norm, in one pass, beside PyTorch's two calls.

Both run in one process, on the same arrays, in alternation, with as many threads each. PyTorch's way is that of
ESPnet's DecayResidual (alpha * x + beta * y, in eager mode) followed by torch.nn.functional.layer_norm; for
Residual with its defaults it is torch.add. cumega is called through ctypes, which costs about a microsecond a
call and is left in cumega's time. First the results are compared; nothing is timed that differs.

Exit status: 0; 1 wrong results; 77 torch is missing (benchmarks/peers/install gets it).
"""

import argparse
import ctypes
import os
import statistics
import sys
import time
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p

from library import Context, DLTensor, Library, describe

try:
    import torch
except (ImportError, OSError) as error:
    print(f"skipped: {error}; benchmarks/peers/install makes an environment", file=sys.stderr)
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESIDUAL, DECAY, LAYER_NORM = 0, 4, 0


class ResidualConfig(Structure):
    _fields_ = (
        [("struct_size", c_size_t), ("kind", c_int), ("i_layer", c_int64), ("d_input", c_int64)]
        + [("d_model", c_int64)]
        + [(name, c_double) for name in ("alpha", "beta", "gamma", "power")]
        + [(name, c_int32) for name in ("scalar", "l2", "scaling_correction", "elemwise")]
    )


class NormConfig(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("size", c_int64),
        ("type", c_int),
        ("eps", c_double),
    ]


class ResidualIo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("x", POINTER(DLTensor)),
        ("y", POINTER(DLTensor)),
        ("out", POINTER(DLTensor)),
        ("transposed", c_int32),
        ("norm", c_void_p),
        ("normalized", POINTER(DLTensor)),
    ]


class Row:
    def __init__(self, library, rows, channels, kind, with_norm, threads):
        self.calls = library.calls
        self.calls.cumega_residual_forward.argtypes = [c_void_p, c_void_p, c_void_p]
        self.calls.cumega_residual_destroy.argtypes = [c_void_p]
        self.calls.cumega_norm_destroy.argtypes = [c_void_p]
        self.context = Context(library, threads)
        self.residual, self.norm = c_void_p(), c_void_p()
        config = ResidualConfig(ctypes.sizeof(ResidualConfig), kind, 3, channels, channels)
        config.alpha = config.beta = 1
        config.power, config.scalar, config.l2 = 0.5, 1, 1
        pointer = self.context.pointer
        self.context.check(
            self.calls.cumega_residual_create(pointer, byref(config), None, byref(self.residual))
        )
        if with_norm:
            config = NormConfig(ctypes.sizeof(NormConfig), channels, LAYER_NORM, 1e-12)
            self.context.check(
                self.calls.cumega_norm_create(pointer, byref(config), None, byref(self.norm))
            )
        torch.manual_seed(0)
        self.x, self.y = torch.randn(rows, channels), torch.randn(rows, channels)
        self.out, self.normalized = torch.empty_like(self.x), torch.empty_like(self.x)
        self.beta = 3**-0.5 if kind == DECAY else 1.0
        self.alpha = (1 - self.beta**2) ** 0.5 if kind == DECAY else 1.0
        self.weight, self.bias = torch.ones(channels), torch.zeros(channels)
        self.kind, self.with_norm, self.channels = kind, with_norm, channels
        self.tensors = [describe(t) for t in (self.x, self.y, self.out, self.normalized)]
        x, y, out, normalized = (ctypes.pointer(t) for t in self.tensors)
        self.io = ResidualIo(ctypes.sizeof(ResidualIo), x, y, out, 0, self.norm)
        if with_norm:
            self.io.normalized = normalized

    def run_cumega(self):
        self.context.check(
            self.calls.cumega_residual_forward(self.context.pointer, self.residual, byref(self.io))
        )

    def run_torch(self):
        if self.kind == DECAY:
            out = self.alpha * self.x + self.beta * self.y
        else:
            out = self.x + self.y
        if not self.with_norm:
            return out, out
        f = torch.nn.functional
        return out, f.layer_norm(out, (self.channels,), self.weight, self.bias, 1e-12)

    def check(self):
        """Sums of two rounded products differ by a few roundings of at most 8, normalised values by a few of
        at most 8 too."""
        self.run_cumega()
        out, normalized = self.run_torch()
        off = (self.out - out).abs().max().item()
        if self.with_norm:
            off = max(off, (self.normalized - normalized).abs().max().item())
        return off <= 16 * 8 * 2.0**-24

    def close(self):
        self.calls.cumega_residual_destroy(self.residual)
        self.calls.cumega_norm_destroy(self.norm)
        self.context.close()


def sample(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", default=os.path.join(ROOT, "build", "src", "libcumega.so"))
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    settings = parser.parse_args()
    library = Library(settings.library)
    torch.set_num_threads(settings.threads)
    print(f"({settings.rows}, {settings.channels}) float32, {settings.threads} thread(s), torch {torch.__version__}")
    with torch.inference_mode():
        for kind, with_norm in ((RESIDUAL, False), (DECAY, False), (RESIDUAL, True), (DECAY, True)):
            row = Row(library, settings.rows, settings.channels, kind, with_norm, settings.threads)
            name = ("DecayResidual" if kind == DECAY else "Residual") + (
                " + layer_norm" if with_norm else ""
            )
            if not row.check():
                print(f"wrong: {name}")
                sys.exit(1)
            pairs = [(sample(row.run_cumega), sample(row.run_torch)) for _ in range(settings.repeats)]
            ours, theirs = (statistics.median(column) for column in zip(*pairs))
            ratio = statistics.median(b / a for a, b in pairs)
            print(f"{name:28} cumega {1e6 * ours:10.1f} us  torch {1e6 * theirs:10.1f} us  pairs {ratio:5.2f}x")
            row.close()


if __name__ == "__main__":
    main()
