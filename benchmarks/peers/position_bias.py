#!/usr/bin/env python3
"""cumega's attention weights beside PyTorch's unfused sequence, and its biases beside ESPnet's modules.

Everything runs in one process, on the same arrays, in alternation; first the results are compared.
The sequence is what ESPnet's MEGA block does in eager PyTorch, float32, under
torch.inference_mode(): scores * scale + bias, masked_fill of a causal mask made before, softmax; and
the same with the bias kept from an earlier call, which ESPnet does not do. A rotary bias is compared as
a matrix, with and without its table made anew.

Exit status: 0; 1 wrong results; 77 torch or ESPnet is missing (benchmarks/peers/install gets them).
"""

import argparse
import os
import statistics
import sys
import time

from library import Context, Library, PositionBias

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAMPLE_SECONDS = 1e-3

try:
    import torch
    from espnet2.asr_transducer.decoder.modules.mega import positional_bias as peers
except (ImportError, OSError) as error:
    print(f"skipped: {error}; benchmarks/peers/install makes an environment", file=sys.stderr)
    sys.exit(77)


def seconds_of(run):
    """Per call, of as many calls as take a millisecond."""
    calls, spent = 0, 0.0
    start = time.perf_counter()
    while spent < SAMPLE_SECONDS:
        run()
        calls += 1
        spent = time.perf_counter() - start
    return spent / calls


def compare(title, ours, theirs, repeats):
    """Medians, and the median over the pairs of theirs / ours."""
    ours()
    theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(repeats)]
    first, second = (1e6 * statistics.median(column) for column in zip(*pairs))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{title:44} cumega {first:10.1f} us, PyTorch {second:10.1f} us: {ratio:7.1f} times", flush=True)


def check(title, ours, theirs, allowed):
    difference = (ours - theirs).abs().max().item()
    if not difference <= allowed:
        print(f"wrong: {title} differs by {difference:g}, allowed {allowed:g}")
        sys.exit(1)


def attention(library, shape, causal, settings):
    batch, heads, queries, keys = shape
    module = peers.RelativePositionBias(keys)
    scores = torch.randn(shape)
    weights = torch.empty_like(scores)
    hidden = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
    context = Context(library, settings.threads)
    bias = PositionBias(context, module)
    ours = bias.softmax(scores, weights, 0.125, causal)

    def theirs(matrix=None):
        matrix = module(keys)[keys - queries :] if matrix is None else matrix
        s = scores * 0.125 + matrix
        if causal:
            s = s.masked_fill(hidden, float("-inf"))
        return torch.softmax(s, dim=-1, dtype=torch.float32)

    kept = module(keys)[keys - queries :].clone()
    title = f"softmax {shape}{' causal' if causal else ''}"
    check(title, weights, theirs(), 1e-5)
    compare(title, ours, theirs, settings.repeats)
    compare(f"{title}, bias kept", ours, lambda: theirs(kept), settings.repeats)
    bias.close()
    context.close()


def rotary(library, length, size, settings):
    module = peers.RotaryRelativePositionBias(size, length)
    matrix = torch.empty(length, length)
    context = Context(library, settings.threads)
    bias = PositionBias(context, module)
    ours = bias.forward(matrix)
    # A float32 angle of up to `length` radians is off by length * 2^-24 / 2, in each of the terms.
    magnitude = (module.alpha.abs().max() * module.beta.abs().max()).item() * 2 * size
    check("rotary", matrix, module(length), magnitude * (length * 2.0**-24 + 1e-6))

    def table():
        fresh = Context(library, 1)
        own = PositionBias.__new__(PositionBias)
        own.context, own.pointer = fresh, bias.pointer
        own.prepare(length)
        fresh.close()

    title = f"rotary, {length} positions of size {size}"
    compare(f"{title}: table", table, lambda: module(length), settings.repeats)
    compare(f"{title}: (L, L)", ours, lambda: module(length), settings.repeats)
    bias.close()
    context.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", default=os.path.join(ROOT, "build", "src", "libcumega.so"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    settings = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(settings.threads)
    library = Library(settings.library)
    print(f"torch {torch.__version__}, cumega {library.version()}, {settings.threads} threads")
    with torch.inference_mode():
        for shape in ((8, 4, 256, 256), (4, 1, 1024, 1024), (1, 1, 2048, 2048), (64, 1, 1, 4096)):
            for causal in (False, True):
                attention(library, shape, causal, settings)
        rotary(library, 2048, 128, settings)


if __name__ == "__main__":
    main()
