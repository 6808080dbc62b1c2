#!/usr/bin/env python3
"""Compares cumega's residual connections, with and without the layer norm that follows, with
PyTorch's calls.

A residual connection is ESPnet's own module (state_spaces.residual), followed by
torch.nn.functional.layer_norm; a gated one is MEGA's addcmul after a sigmoid. float32, under
torch.inference_mode(). They run eagerly, and with --compile also through torch.compile. If only
torch is installed, the same formulas in plain torch replace the modules (formulas.py), and the
result says so. measure.py describes the timing.

Exit status: 0; 1 wrong results; 77 torch is missing (benchmarks/peers/install gets it) or the
device does not exist.
"""

import ctypes
import functools
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p

import measure
import torch
from library import FLOAT32, DLDataType, DLTensor, describe
from measure import ROUNDOFF, Case

try:
    from espnet2.asr.state_spaces.residual import DecayResidual, Residual

    PEER = "ESPnet's"
except (ImportError, OSError):
    from formulas import PlainDecayResidual as DecayResidual
    from formulas import PlainResidual as Residual

    PEER = "ESPnet's formulas in plain PyTorch,"

KINDS = {"Residual": (0, Residual), "DecayResidual": (4, DecayResidual)}
LAYER, LAYER_NORM, EPS = 3, 0, 1e-12


class ResidualConfig(Structure):
    _fields_ = (
        [("struct_size", c_size_t), ("kind", c_int), ("i_layer", c_int64), ("d_input", c_int64)]
        + [("d_model", c_int64)]
        + [(name, c_double) for name in ("alpha", "beta", "gamma", "power")]
        + [(name, c_int32) for name in ("scalar", "l2", "scaling_correction", "elemwise")]
        + [("dtype", DLDataType)]
    )


class NormConfig(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("size", c_int64),
        ("type", c_int),
        ("eps", c_double),
        ("dtype", DLDataType),
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


class GatedIo(Structure):
    _fields_ = (
        [("struct_size", c_size_t)]
        + [(name, POINTER(DLTensor)) for name in ("x", "gate", "h", "out")]
        + [("norm", c_void_p), ("normalized", POINTER(DLTensor))]
    )


class Objects:
    """The context, and the objects that a case makes in it."""

    def __init__(self, library, settings, threads):
        self.context = measure.context_on(library, settings.device, threads)
        self.calls = library.calls
        self.residual, self.norm = c_void_p(), c_void_p()
        for name in ("residual", "norm"):
            getattr(self.calls, f"cumega_{name}_destroy").argtypes = [c_void_p]
        self.calls.cumega_residual_forward.argtypes = [c_void_p, c_void_p, c_void_p]
        self.calls.cumega_residual_gated_forward.argtypes = [c_void_p, c_void_p]

    def create(self, name, config):
        made = getattr(self, name)
        call = getattr(self.calls, f"cumega_{name}_create")
        self.context.check(call(self.context.pointer, byref(config), None, byref(made)))

    def close(self):
        self.calls.cumega_residual_destroy(self.residual)
        self.calls.cumega_norm_destroy(self.norm)
        self.context.close()


def make(kind, norm, settings, library, threads):
    torch.manual_seed(0)
    length, batch, channels = settings.shape
    x, y, gate = (torch.randn(settings.shape, device=settings.device) for _ in range(3))
    out, normalized = torch.empty_like(x), torch.empty_like(x)
    objects = Objects(library, settings, threads)
    tensors = {"x": x, "out": out} | ({"y": y} if kind in KINDS else {"gate": gate, "h": y})
    if norm != "none":
        tensors["normalized"] = normalized
        norm_config = NormConfig(ctypes.sizeof(NormConfig), channels, LAYER_NORM, EPS, FLOAT32)
        objects.create("norm", norm_config)
    io = ResidualIo() if kind in KINDS else GatedIo()
    io.struct_size, io.norm = ctypes.sizeof(io), objects.norm
    for name, tensor in tensors.items():
        setattr(io, name, ctypes.pointer(describe(tensor)))
    pointer = objects.context.pointer
    weight, bias = (make(channels, device=settings.device) for make in (torch.ones, torch.zeros))
    if kind in KINDS:
        number, module = KINDS[kind][0], KINDS[kind][1](LAYER, channels, channels)
        config = ResidualConfig(ctypes.sizeof(ResidualConfig), number, LAYER, channels, channels)
        config.alpha = config.beta = 1
        config.power, config.scalar, config.l2, config.dtype = 0.5, 1, 1, FLOAT32
        objects.create("residual", config)

    def ours():
        if kind in KINDS:
            status = objects.calls.cumega_residual_forward(pointer, objects.residual, byref(io))
        else:
            status = objects.calls.cumega_residual_gated_forward(pointer, byref(io))
        objects.context.check(status)

    def theirs():
        if kind in KINDS:
            sums = module(x, y, False)
        else:
            sums = torch.addcmul(x, torch.sigmoid(gate), y - x)
        if norm == "none":
            return sums, sums
        return sums, torch.nn.functional.layer_norm(sums, (channels,), weight, bias, EPS)

    def check():
        """Both the sums of rounded products and the normalised values differ by a few roundings
        of numbers up to 8."""
        ours()
        sums, right = theirs()
        off = (out - sums).abs().max().item()
        if norm != "none":
            off = max(off, (normalized - right).abs().max().item())
        return off, 16 * 8 * ROUNDOFF

    gated = kind not in KINDS
    row = {"op": "gated_residual" if gated else "residual", "shape": list(settings.shape)}
    row |= ({} if gated else {"kind": kind}) | {"norm": norm, "algorithm": "direct"}
    peer = "PyTorch's sigmoid and addcmul" if gated else f"{PEER} {kind}"
    peer += "" if norm == "none" else " and layer_norm"
    moved = sum(tensor.nbytes for tensor in tensors.values())
    return Case(
        row,
        objects.context,
        ours,
        peer,
        theirs,
        lambda: torch.compile(theirs),
        moved,
        check,
        objects.close,
    )


def main():
    parser = measure.parser_of(__doc__)
    parser.add_argument(
        "--shape", type=measure.shape_of("L,B,D"), default=(2048, 8, 512), metavar="L,B,D"
    )
    settings = parser.parse_args()
    measure.run(
        settings,
        [
            functools.partial(make, kind, norm)
            for kind in (*KINDS, "gated")
            for norm in ("none", "layer_norm")
        ],
    )


if __name__ == "__main__":
    main()
