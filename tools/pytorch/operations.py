#!/usr/bin/env python3
"""The operations of a training step of the preset `paper` beside PyTorch's: same shapes, 2 threads, in turns.

    cargo bench --bench operations --no-run     # prints the path of the binary
    python tools/pytorch/operations.py PATH [NAME...]

The binary says which operations there are and their shapes (benches/operations.rs). Each runs ROUNDS times on both sides one
right after the other, so that other load hits both; PyTorch has the better of NCHW and NHWC, eager, and of group norm and
SiLU also compiled where a C++ compiler works. The table shows medians and the median ratio. Needs torch.
"""

import os
import statistics
import subprocess
import sys
import time

import torch
from torch._functorch import config as functorch
from torch.nn import functional as F

# A compiled backward pass is timed several times on the same values.
functorch.donated_buffer = False

THREADS = 2
ROUNDS = 3
BUDGET = 0.4
CHANNELS_A_GROUP = 16
LAYOUTS = (torch.contiguous_format, torch.channels_last)
PASSES = {"norm": ("forward", "backward"), "adam": ("clip and update",)}


def median_ms(call):
    call()
    times, begin = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begin < BUDGET:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def convolution(layout, transposed, batch, extent, cin, cout, kernel, stride, padding):
    x = torch.randn(batch, cin, extent, extent).to(memory_format=layout)
    w = torch.randn((cin, cout, kernel, kernel) if transposed else (cout, cin, kernel, kernel))
    w = w.to(memory_format=layout)
    run = F.conv_transpose2d if transposed else F.conv2d
    with torch.no_grad():
        y = run(x, w, stride=stride, padding=padding)

        def backward(mask):
            return torch.ops.aten.convolution_backward(
                y, x, w, None, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], 1, mask
            )

        return [
            median_ms(lambda: run(x, w, stride=stride, padding=padding)),
            median_ms(lambda: backward([True, False, False])),
            median_ms(lambda: backward([False, True, False])),
        ]


def norm(layout, function, batch, extent, channels):
    x = torch.randn(batch, channels, extent, extent).to(memory_format=layout).requires_grad_()
    gamma, beta = torch.randn(channels).requires_grad_(), torch.randn(channels).requires_grad_()
    y = function(x, gamma, beta)
    dy = torch.randn_like(y)
    forward = median_ms(lambda: function(x, gamma, beta))
    return [forward, median_ms(lambda: torch.autograd.grad(y, (x, gamma, beta), dy, retain_graph=True))]


def norm_silu(x, gamma, beta):
    return F.silu(F.group_norm(x, x.shape[1] // CHANNELS_A_GROUP, gamma, beta))


def norm_functions():
    compiled = torch.compile(norm_silu)
    try:
        compiled(torch.randn(1, 16, 2, 2), torch.ones(16), torch.zeros(16))
    except Exception as error:  # whatever the compiler stack raises
        print(f"group norm is not compiled: {str(error).splitlines()[0]}", file=sys.stderr)
        return [norm_silu]
    return [norm_silu, compiled]


def adam(count):
    p = torch.randn(count).requires_grad_()
    gradient = torch.randn(count)
    optimiser = torch.optim.Adam([p], fused=True)

    def update():
        p.grad = gradient
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimiser.step()

    return [median_ms(update)]


def torch_ms(kind, extents, functions):
    """Milliseconds of each pass: the best way for each."""
    batch, extent, cin, *_ = extents
    if kind == "adam":
        return adam(cin)
    if kind == "norm":
        ways = [norm(layout, function, batch, extent, cin) for layout in LAYOUTS for function in functions]
    else:
        ways = [convolution(layout, kind == "transposed", *extents) for layout in LAYOUTS]
    return [min(times) for times in zip(*ways)]


def ours(binary, names):
    """{name: (kind, extents, times)}"""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS))
    text = subprocess.run([binary, *names], env=environment, check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in text.splitlines()]
    return {row[0]: (row[1], [int(v) for v in row[2:9]], [float(v) for v in row[9:]]) for row in rows}


def operations_of(kind, extents):
    batch, extent, cin, cout, kernel, stride, padding = extents
    sites = extent if kind == "transposed" else (extent + 2 * padding - kernel) // stride + 1
    return 2 * batch * sites**2 * kernel**2 * cin * cout


def main():
    binary = sys.argv[1]
    torch.set_num_threads(THREADS)
    functions = norm_functions()
    print("| operation | pass | ours ms | PyTorch ms | ours GFLOP/s | PyTorch / ours |\n|---|---|---|---|---|---|")
    for name in ours(binary, sys.argv[2:]):
        rounds = []
        for _ in range(ROUNDS):
            kind, extents, times = ours(binary, [name])[name]
            rounds.append((times, torch_ms(kind, extents, functions)))
        for i, what in enumerate(PASSES.get(kind, ("forward", "data", "weight"))):
            mine = statistics.median(r[0][i] for r in rounds)
            peer = statistics.median(r[1][i] for r in rounds)
            ratio = statistics.median(r[1][i] / r[0][i] for r in rounds)
            rate = "" if kind in PASSES else f"{operations_of(kind, extents) / mine * 1e-6:.0f}"
            print(f"| {name} | {what} | {mine:.2f} | {peer:.2f} | {rate} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
