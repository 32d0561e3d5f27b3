#!/usr/bin/env python3
"""The network of a run in PyTorch, from its checkpoint: the same latent and the same decoded planes.

    cargo build --release
    python tools/peers/network.py RUN [--hexcuda target/release/hexcuda]

Rebuilds the forward pass from the tensors of `checkpoint.safetensors` and `config.toml` alone, runs it on the planes of
`input.ply`, and compares with `hexcuda encode` and `hexcuda decode`. Exit code 1 where a relative L2 error is above 1e-5:
both add up the same f32 products in another order, which measured 1.1e-6 (latent) and 7e-8 (planes) for the preset
`quick`; a wrong layout gives an error near 1. Needs numpy, safetensors and torch.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch.nn import functional as F

VIEWS = 6
CHANNELS_A_GROUP = 16
# model::DEPTH_SCALE: what is added to the linear path is that much smaller in depth.
DEPTH_SCALE = 32
LIMIT = 1e-5


class Network:
    def __init__(self, run):
        self.a = tomllib.loads((run / "config.toml").read_text())["architecture"]
        tensors = load_file(str(run / "checkpoint.safetensors"))
        self.t = {name: torch.from_numpy(value) for name, value in tensors.items() if not name.startswith("adam.")}
        self.linear = "encoder.linear.weight" in self.t

    def conv(self, name, x, stride=1):
        weight = self.t[f"{name}.weight"]
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self.t[f"{name}.bias"], stride, padding)

    def up(self, name, x):
        weight = self.t[f"{name}.weight"]
        return F.conv_transpose2d(x, weight, self.t[f"{name}.bias"], weight.shape[-1])

    def norm(self, name, x):
        channels = x.shape[1]
        groups = next(g for g in range(max(channels // CHANNELS_A_GROUP, 1), 0, -1) if channels % g == 0)
        return F.silu(F.group_norm(x, groups, self.t[f"{name}.weight"], self.t[f"{name}.bias"]))

    def residual(self, name, x):
        branch = self.conv(f"{name}.conv1", self.norm(f"{name}.norm1", x))
        return x + self.conv(f"{name}.conv2", self.norm(f"{name}.norm2", branch))

    def exchange(self, name, x):
        return x + self.conv(f"{name}.conv", self.norm(f"{name}.norm", x).mean(0, keepdim=True))

    def encode(self, planes):
        a = self.a
        x = self.conv("encoder.stem", planes, a["stem"])
        top = len(a["widths"]) - 1
        for level, blocks in enumerate(a["encoder_blocks"]):
            if level > 0:
                x = self.conv(f"encoder.{level}.down", x, 2)
            if level == top and a["embedding"]:
                x = x + self.t["encoder.embedding"]
            for block in range(blocks):
                x = self.residual(f"encoder.{level}.block{block}", x)
        if a["exchange"]:
            x = self.exchange("encoder.exchange", x)
        latent = self.conv("encoder.out", self.norm("encoder.norm", x))
        return latent + self.conv("encoder.linear", planes, a["patch"]) if self.linear else latent

    def decode(self, latent):
        a = self.a
        x = self.conv("decoder.in", latent)
        if a["embedding"]:
            x = x + self.t["decoder.embedding"]
        if a["exchange"]:
            x = self.exchange("decoder.exchange", x)
        for level in reversed(range(len(a["widths"]))):
            for block in range(a["decoder_blocks"][level]):
                x = self.residual(f"decoder.{level}.block{block}", x)
            if level > 0:
                x = self.up(f"decoder.{level}.up", x)
        decoded = self.up("decoder.out", self.norm("decoder.norm", x))
        if not self.linear:
            return decoded
        decoded[:, 0] /= DEPTH_SCALE
        return decoded + self.up("decoder.linear", latent)


def read_latent(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 8)
    shape = json.loads(data[12 : 12 + length])["shape"]
    return np.frombuffer(data[12 + length : -4], "<f4").reshape(shape).transpose(0, 3, 1, 2)


def relative(ours, theirs):
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    arguments = parser.parse_args()
    network = Network(arguments.run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def hexcuda(*words):
            subprocess.run([arguments.hexcuda, *map(str, words)], check=True)

        mesh, size = arguments.run / "input.ply", network.a["planes"]
        hexcuda("rasterize", mesh, "--size", size, "-o", folder / "planes.safetensors")
        hexcuda("encode", "--quiet", "--run", arguments.run, mesh, "-o", folder / "latent.hexz")
        hexcuda("decode", "--run", arguments.run, folder / "latent.hexz", "-o", folder / "mesh.ply",
                "--planes", folder / "decoded.safetensors")
        planes = load_file(str(folder / "planes.safetensors"))["planes"]
        latent = read_latent(folder / "latent.hexz")
        decoded = load_file(str(folder / "decoded.safetensors"))["planes"]
    with torch.no_grad():
        errors = {
            "latent": relative(latent, network.encode(torch.from_numpy(planes)).numpy()),
            "decoded planes": relative(decoded, network.decode(torch.from_numpy(latent.copy())).numpy()),
        }
    print("relative L2 against PyTorch:", ", ".join(f"{name} {error:.1e}" for name, error in errors.items()))
    return int(max(errors.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
