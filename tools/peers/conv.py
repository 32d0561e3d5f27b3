"""Convolutions beside PyTorch: same shapes, 2 threads, the better of NCHW and NHWC.

    cargo bench --bench conv --no-run     # prints the path of the binary
    python tools/peers/conv.py PATH

For each shape our benchmark and PyTorch run one right after the other, ROUNDS times, so that other load hits
both; the table shows the medians and the ratio of ours to PyTorch's.
"""

import os
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

THREADS = 2
ROUNDS = 3
BUDGET = 0.4
# Name: batch, extent, in, out, kernel, stride, padding; the same as in benches/conv.rs.
SHAPES = {
    "3x3_64_96": (6, 64, 96, 96, 3, 1, 1),
    "3x3_32_192": (6, 32, 192, 192, 3, 1, 1),
    "3x3_16_448": (6, 16, 448, 448, 3, 1, 1),
    "3x3_8_448": (6, 8, 448, 448, 3, 1, 1),
    "3x3_8_448_b48": (48, 8, 448, 448, 3, 1, 1),
    "2x2_64_96_192": (6, 64, 96, 192, 2, 2, 0),
    "2x2_32_192_448": (6, 32, 192, 448, 2, 2, 0),
    "patch8_512_4_96": (6, 512, 4, 96, 8, 8, 0),
    "patch32_512_4_256": (6, 512, 4, 256, 32, 32, 0),
    "1x1_16_448_256": (6, 16, 448, 256, 1, 1, 0),
}


def median_ms(call):
    call()
    times, begin = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < BUDGET:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def torch_ms(batch, extent, cin, cout, kernel, stride, padding):
    """Forward, data gradient, weight gradient: the better of the two memory formats each."""
    best = [float("inf")] * 3
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(batch, cin, extent, extent).to(memory_format=layout)
        w = torch.randn(cout, cin, kernel, kernel).to(memory_format=layout)
        with torch.no_grad():
            y = F.conv2d(x, w, stride=stride, padding=padding)

            def backward(mask):
                return torch.ops.aten.convolution_backward(
                    y, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
                )

            calls = (
                lambda: F.conv2d(x, w, stride=stride, padding=padding),
                lambda: backward([True, False, False]),
                lambda: backward([False, True, False]),
            )
            best = [min(b, median_ms(call)) for b, call in zip(best, calls)]
    return best


def ours_ms(binary, name):
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS))
    text = subprocess.run([binary, name], env=environment, check=True, capture_output=True, text=True).stdout
    values = text.splitlines()[1].split("\t")[1:]
    return [float(v) for v in values[0::2]]


def main():
    binary, names = sys.argv[1], sys.argv[2:] or list(SHAPES)
    torch.set_num_threads(THREADS)
    print("| shape | pass | ours ms | PyTorch ms | ours GFLOP/s | ours / PyTorch |\n|---|---|---|---|---|---|")
    for name in names:
        batch, extent, cin, cout, kernel, stride, padding = shape = SHAPES[name]
        rounds = [(ours_ms(binary, name), torch_ms(*shape)) for _ in range(ROUNDS)]
        out = (extent + 2 * padding - kernel) // stride + 1
        operations = 2 * batch * out * out * kernel * kernel * cin * cout
        for i, what in enumerate(("forward", "data", "weight")):
            ours = statistics.median(r[0][i] for r in rounds)
            peer = statistics.median(r[1][i] for r in rounds)
            ratio = statistics.median(r[0][i] / r[1][i] for r in rounds)
            rate = operations / ours * 1e-6
            print(f"| {name} | {what} | {ours:.2f} | {peer:.2f} | {rate:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
