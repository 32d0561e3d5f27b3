#!/usr/bin/env python3
"""A run beside the same network in PyTorch: latent, decoded planes, losses, every gradient and every updated weight.

    cargo build --release
    target/release/hexcuda train --preset quick --out RUN
    python tools/pytorch/compare.py RUN [--hexcuda target/release/hexcuda]

Encoding and decoding take the planes of `input.ply`; `hexcuda bench --step --run RUN --gradients` makes one training step on
it, and PyTorch repeats it from the checkpoint on the same planes, points and distances, in f32 and in f64. Prints the relative
L2 error of each tensor as Markdown tables: latent and planes to PyTorch in f32, losses to f64, gradients as the heads of the
columns say, weights to f32. Exit code 1 where one is above its limit: both sides add up the same f32 products in
another order, so that values differ by some 1e-6. The gradient of the reconstruction is a sum of small differences of
decoded and true depth, each rounded at the size of the depth, so that near convergence its f32 error is some 1e-3 and in
biases more; a wrong layout or a missing term gives an error near 1. Needs numpy, safetensors and torch.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from network import Step, relative
from safetensors.numpy import load_file

VALUES, GRADIENTS = 1e-5, 1e-2


def read_latent(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 8)
    shape = json.loads(data[12 : 12 + length])["shape"]
    return np.frombuffer(data[12 + length : -4], "<f4").reshape(shape).transpose(0, 3, 1, 2)


def forward_errors(hexcuda, run, step, folder):
    """Encoding and decoding, each from the same input on both sides."""
    mesh, size = run / "input.ply", step.settings["architecture"]["planes"]
    hexcuda("rasterize", mesh, "--size", size, "-o", folder / "planes.safetensors")
    hexcuda("encode", "--quiet", "--uncompressed", "--run", run, mesh, "-o", folder / "latent.hexz")
    hexcuda("decode", "--run", run, folder / "latent.hexz", "-o", folder / "mesh.ply",
            "--planes", folder / "decoded.safetensors")
    planes = load_file(str(folder / "planes.safetensors"))["planes"]
    latent = read_latent(folder / "latent.hexz")
    decoded = load_file(str(folder / "decoded.safetensors"))["planes"]
    with torch.no_grad():
        return {
            "latent": relative(latent, step.network.encode(step.network.seen(torch.from_numpy(planes)))),
            "decoded planes": relative(decoded, step.network.shown(step.network.decode(torch.from_numpy(latent.copy())))),
        }


def gradients_of(network):
    return {name: parameter.grad.clone().numpy() for name, parameter in network.named().items()}


def step_errors(hexcuda, run, step, folder):
    """Losses, and for every parameter the errors that the table of `main` has."""
    hexcuda("bench", run / "input.ply", "--step", "--run", run, "--device", "cpu",
            "--gradients", folder / "step.safetensors")
    ours = load_file(str(folder / "step.safetensors"))
    batch = [torch.from_numpy(ours[name]) for name in ("planes", "points", "distances")]
    wide = Step(run)
    wide.network.double()
    losses = wide.gradients(*(values.double() for values in batch))
    exact = gradients_of(wide.network)
    norm = np.sqrt(sum(np.square(gradient).sum() for gradient in exact.values()))
    exact_losses = [float(loss) for loss in (*(loss.detach() for loss in losses), norm)]
    before = {name: parameter.detach().clone().numpy() for name, parameter in step.network.named().items()}
    step.gradients(*batch)
    gradients = gradients_of(step.network)
    step.update()
    names = ("loss", "reconstruction", "sdf", "gradient norm")
    scalars = {name: relative(a, b) for name, a, b in zip(names, ours["losses"], exact_losses)}
    rows = {}
    for name, parameter in step.network.named().items():
        after = parameter.detach().numpy()
        rows[name] = (
            relative(ours[f"gradient.{name}"], exact[name]),
            relative(gradients[name], exact[name]),
            relative(ours[f"gradient.{name}"], gradients[name]),
            relative(ours[f"updated.{name}"], after),
            relative(ours[f"updated.{name}"] - before[name], after - before[name]),
        )
    return scalars, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    arguments = parser.parse_args()
    step = Step(arguments.run)
    with tempfile.TemporaryDirectory() as name:
        def hexcuda(*words):
            subprocess.run([arguments.hexcuda, *map(str, words)], check=True, stdout=subprocess.DEVNULL)

        values = forward_errors(hexcuda, arguments.run, step, Path(name))
        scalars, rows = step_errors(hexcuda, arguments.run, step, Path(name))
    print("| value | relative L2 error |\n|---|---|")
    for name, error in {**values, **scalars}.items():
        print(f"| {name} | {error:.1e} |")
    print("\n| parameter | gradient: hexcuda to f64 | PyTorch to f64 | hexcuda to PyTorch | updated weights | their change |")
    print("|---|---|---|---|---|---|")
    for name, errors in rows.items():
        print(f"| {name} | " + " | ".join(f"{error:.1e}" for error in errors) + " |")
    worst = [max(row[k] for row in rows.values()) for k in range(5)]
    print("| **largest** | " + " | ".join(f"{error:.1e}" for error in worst) + " |")
    within = max(values.values()) <= VALUES and worst[0] <= GRADIENTS and worst[3] <= VALUES
    return int(not within)


if __name__ == "__main__":
    sys.exit(main())
