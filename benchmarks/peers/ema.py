#!/usr/bin/env python3
"""Compares cumega's EMA with ESPnet's module in PyTorch and with a copy of the same bytes.

ESPnet's module is what a user calls: MultiHeadDampedEMA in eval mode, float32, under
torch.inference_mode(), with as many torch threads as the context has. It runs eagerly, and with
--compile also through torch.compile. If only torch is installed, the same formulas in plain torch
replace it (formulas.py), and the result says so. measure.py describes the timing.

Exit status: 0; 1 wrong results; 77 torch is missing (benchmarks/peers/install gets it) or the
device does not exist.
"""

import copy
import functools
import math

import measure
import torch
from library import Ema
from measure import ROUNDOFF, Case

try:
    from espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema import (
        MultiHeadDampedEMA as PeerEma,
    )

    PEER = "ESPnet's MultiHeadDampedEMA"
except (ImportError, OSError):
    from formulas import PlainEma as PeerEma

    PEER = "ESPnet's formulas in plain PyTorch"

ACTIVATIONS = {"relu": torch.nn.ReLU(), "swish": torch.nn.SiLU()}


class Problem:
    """The arrays of one case, and both results."""

    def __init__(self, settings, op, activation, shape):
        length, self.batch, self.channels = shape
        self.op, self.length = op, length if op == "forward" else 1
        device = settings.device
        torch.manual_seed(0)
        module = PeerEma(self.channels, settings.heads, ACTIVATIONS[activation])
        self.module = module.eval().to(device)
        self.x = torch.randn(self.length, self.batch, self.channels, device=device)
        self.y = torch.full_like(self.x, math.nan)
        self.state, self.final = None, None
        self.tensors = {"x": self.x, "y": self.y}
        self.bytes = 2 * self.x.nbytes
        if op == "step":
            self.state = torch.randn(self.batch, self.channels, settings.heads, device=device)
            self.final = torch.full_like(self.state, math.nan)
            self.tensors.update(initial_state=self.state, final_state=self.final)
            self.bytes += 2 * self.state.nbytes

    def run_peer(self, module=None):
        state = None if self.state is None else {"ema_state": self.state}
        return (self.module if module is None else module)(self.x, state=state)


def allowed_in_forward(problem, module):
    """The largest difference that the two methods can explain.

    ESPnet's forward is three Fourier transforms of n = 2L numbers. Each has a relative error of at
    most 7 u log2(n) in the 2-norm (Higham, Accuracy and Stability of Numerical Algorithms, 24.1),
    so an element of the convolution is off by at most 7 u log2(n) (2 |k|_2 + |k|_1) |x|_2. A term
    of its kernel, exp(l log q), is relatively off by l |log q| u + l u / q + a few u; weighted
    with q^l that is below 2 u / (1 - q) + 8 u of |k| |x|_max, the magnitudes summed over heads.
    cumega's own error is below 8 u + u / (1 - q) of the same.
    """
    p, q = module.compute_ema_coefficients()
    gain = (p * module.ema_expansion_matrix)[..., 0]
    weight = module.scaling * module.kernel_projection_matrix * gain
    largest = problem.x.abs().max().item()
    magnitude = (weight.abs() / (1 - q[..., 0])).sum(dim=1).max().item() * largest
    kernel = module.compute_ema_kernel(problem.length)
    k2, k1 = kernel.norm(dim=1).max().item(), kernel.abs().sum(dim=1).max().item()
    x2 = problem.x.double().norm(dim=0).max().item()
    slowness = (1 / (1 - q)).max().item()
    transforms = 7 * math.log2(2 * problem.length) * (2 * k2 + k1) * x2
    return ROUNDOFF * (transforms + (16 + 3 * slowness) * magnitude)


def allowed_in_step(problem, module):
    """Both sides round a dozen products and sums, each below the sum of the magnitudes; ESPnet's
    p and q are off by a few u."""
    p, q = module.compute_ema_coefficients()
    gain = (p * module.ema_expansion_matrix)[..., 0].abs()
    state = gain * problem.x.abs().max() + q[..., 0] * problem.state.abs().max()
    e = (module.scaling * module.kernel_projection_matrix.abs() * state).sum(dim=1)
    return ROUNDOFF * 32 * max(state.max().item(), e.max().item())


def check(problem, ours):
    """The residual and its sum add four roundings, and swish enlarges an error by at most 1.1."""
    ours()
    theirs, their_state = problem.run_peer()
    module = copy.deepcopy(problem.module).double()
    of_op = allowed_in_forward if problem.op == "forward" else allowed_in_step
    largest = (module.residual_weight.abs().max() * problem.x.abs().max()).item()
    largest += theirs.abs().max().item()
    allowed = 1.1 * of_op(problem, module) + 8 * ROUNDOFF * largest
    difference = (problem.y - theirs).abs().max().item()
    if their_state is not None:
        difference = max(difference, (problem.final - their_state).abs().max().item())
    return difference, allowed


def make(op, activation, shape, settings, library, threads):
    problem = Problem(settings, op, activation, shape)
    context = measure.context_on(library, settings.device, threads)
    ema = Ema(context, copy.deepcopy(problem.module).cpu(), activation)
    ours = ema.prepare(op, **problem.tensors)
    row = {
        "op": f"ema_{op}",
        "shape": [problem.length, problem.batch, problem.channels],
        "heads": settings.heads,
        "activation": activation,
        "layout": "LBD",
        "algorithm": "recurrent",
    }

    def compiled():
        module = torch.compile(problem.module)
        return lambda: problem.run_peer(module)

    def close():
        ema.close()
        context.close()

    return Case(
        row,
        context,
        ours,
        PEER,
        problem.run_peer,
        compiled,
        problem.bytes,
        lambda: check(problem, ours),
        close,
    )


def main():
    parser = measure.parser_of(__doc__)
    parser.add_argument("--shape", type=measure.shape_of("L,B,D"), action="append",
                        metavar="L,B,D")
    parser.add_argument("--heads", type=int, default=4, metavar="N")
    settings = parser.parse_args()
    measure.run(
        settings,
        [
            functools.partial(make, op, activation, shape)
            for shape in settings.shape or [(2048, 8, 512)]
            for op in ("forward", "step")
            for activation in ACTIVATIONS
        ],
    )


if __name__ == "__main__":
    main()
