#!/usr/bin/env python3
"""Compares cumega's attention weights with PyTorch's unfused sequence, and its biases with
ESPnet's modules.

The sequence is that of ESPnet's MEGA block, float32, under torch.inference_mode(): scores *
scale + bias, masked_fill with a causal mask made beforehand, softmax. The bias is ESPnet's
module. It is called every time, as ESPnet does ("made anew"), and also with the matrix kept from
an earlier call, which ESPnet does not do. A rotary bias is compared as a matrix, with cumega's
table kept and made anew. All of it runs eagerly, and with --compile also through torch.compile,
unless the bias is kept. If only torch is installed, the same formulas in plain torch replace
ESPnet's (formulas.py), and the result says so. measure.py describes the timing.

Exit status: 0; 1 wrong results; 77 torch is missing (benchmarks/peers/install gets it) or the
device does not exist.
"""

import copy
import functools

import measure
import torch
from library import PositionBias
from measure import Case

try:
    from espnet2.asr_transducer.decoder.modules.mega.positional_bias import (
        RelativePositionBias,
        RotaryRelativePositionBias,
    )

    PEER = "ESPnet's"
except (ImportError, OSError):
    from formulas import PlainRelativeBias as RelativePositionBias
    from formulas import PlainRotaryBias as RotaryRelativePositionBias

    PEER = "ESPnet's formulas in plain PyTorch,"

SHAPES = [(8, 4, 256, 256), (4, 1, 1024, 1024), (1, 1, 2048, 2048), (64, 1, 1, 4096)]


def attention(shape, causal, is_kept, settings, library, threads):
    batch, heads, queries, keys = shape
    device = settings.device
    torch.manual_seed(0)
    module = RelativePositionBias(keys)
    scores = torch.randn(shape, device=device)
    weights = torch.empty_like(scores)
    hidden = torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)
    context = measure.context_on(library, device, threads)
    bias = PositionBias(context, module)
    ours = bias.softmax(scores, weights, 0.125, causal)
    module = copy.deepcopy(module).to(device)
    kept = module(keys)[keys - queries :].clone()

    def theirs():
        s = scores * 0.125 + (kept if is_kept else module(keys)[keys - queries :])
        if causal:
            s = s.masked_fill(hidden, float("-inf"))
        return torch.softmax(s, dim=-1, dtype=torch.float32)

    def check():
        """Weights are at most 1, and both sides round a dozen times at sizes of a few units."""
        ours()
        return (weights - theirs()).abs().max().item(), 1e-5

    def close():
        bias.close()
        context.close()

    row = {
        "op": "attention_softmax",
        "shape": list(shape),
        "bias": "relative",
        "mask": "causal" if causal else "none",
        "algorithm": "direct",
    }
    peer = f"{PEER} unfused sequence, bias {'kept' if is_kept else 'made anew'}"
    compiled = None if is_kept else lambda: torch.compile(theirs)  # compiling takes long
    moved = scores.nbytes + weights.nbytes
    return Case(row, context, ours, peer, theirs, compiled, moved, check, close)


def rotary(length, size, is_kept, settings, library, threads):
    torch.manual_seed(0)
    module = RotaryRelativePositionBias(size, length)
    matrix = torch.empty(length, length, device=settings.device)
    context = measure.context_on(library, settings.device, threads)
    bias = PositionBias(context, module)
    ours = bias.forward(matrix)
    module = copy.deepcopy(module).to(settings.device)
    # In each term, a float32 angle of up to `length` radians is off by length * 2^-24 / 2.
    magnitude = (module.alpha.abs().max() * module.beta.abs().max()).item() * 2 * size

    def anew():
        """A new context has no table yet; weights and matrix stay the same."""
        fresh = measure.context_on(library, settings.device, threads)
        PositionBias.of(fresh, bias.pointer).forward(matrix)
        fresh.close()

    run = ours if is_kept else anew

    def check():
        matrix.fill_(float("nan"))
        run()
        difference = (matrix - module(length)).abs().max().item()
        return difference, magnitude * (length * 2.0**-24 + 1e-6)

    def close():
        bias.close()
        context.close()

    row = {
        "op": "rotary_position_bias",
        "shape": [length, size // 2],
        "table": "kept" if is_kept else "anew",
        "algorithm": "direct",
    }
    peer = f"{PEER} RotaryRelativePositionBias"

    def compiled():
        made = torch.compile(module)
        return lambda: made(length)

    return Case(
        row, context, run, peer, lambda: module(length), compiled, matrix.nbytes, check, close
    )


def main():
    parser = measure.parser_of(__doc__)
    letters = "B,H,Q,K"
    parser.add_argument("--shape", type=measure.shape_of(letters), action="append",
                            metavar=letters)
    parser.add_argument(
        "--rotary", type=measure.shape_of("L,S"), default=(2048, 128), metavar="L,S"
    )
    settings = parser.parse_args()
    cases = [
        functools.partial(attention, shape, causal, is_kept)
        for shape in settings.shape or SHAPES
        for causal in (False, True)
        for is_kept in (False, True)
    ]
    tables = (True, False) if settings.device == "cpu" else (True,)  # contexts cost more on a GPU
    cases += [functools.partial(rotary, *settings.rotary, is_kept) for is_kept in tables]
    measure.run(settings, cases)


if __name__ == "__main__":
    main()
