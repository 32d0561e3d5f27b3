"""The network and the training step of a run in PyTorch, from `checkpoint.safetensors` and `config.toml` alone.

A module for compare.py and step.py, beside it. Needs numpy, safetensors and torch.
"""

import functools
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import torch
from background import emptied, filled
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

VIEWS = 6
CHANNELS_A_GROUP = 16
# nn::layers, hexplane::field and its taps, model::autoencoder.
EPSILON = 1e-5
TAU = 0.02
LEAST_SLOPE, FACES_AWAY = 0.02, 0.2
ENCODER_RATE, LINEAR_RATE_PATCH = 0.1, 20.0
# Columns: right, up, forward of each view (docs/method.md, "Frame and views").
CAMERAS = torch.tensor([
    [[1, 0, 0], [0, 0, -1], [0, -1, 0]],
    [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
    [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
    [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[0, 0, -1], [0, 1, 0], [-1, 0, 0]],
    [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
], dtype=torch.float32)


def settings_of(run):
    settings = tomllib.loads((Path(run) / "config.toml").read_text())
    likelihood = settings.get("likelihood", {})
    plain = (likelihood.get("kind", "mse"), likelihood.get("reduction", "mean")) == ("mse", "mean")
    if settings["representation"] != "continuous" or not plain:
        raise SystemExit(f"{run}: what is compared are continuous planes and the mean squared error")
    latent = settings.get("latent", {}).get("kind", "deterministic")
    if latent != "deterministic":
        raise SystemExit(f"{run}: its latent is {latent}; what is compared is the deterministic one")
    if settings.get("latent", {}).get("rate_weight"):
        raise SystemExit(f"{run}: it is trained for a rate, with noise that is not compared")
    return settings


class Network(nn.Module):
    """Encoder and decoder over images `[6 B, 4, N, N]`, the six views of a mesh one after another."""

    def __init__(self, settings, tensors):
        super().__init__()
        self.a = settings["architecture"]
        names = [name for name in tensors if not name.startswith("adam.")]
        # PyTorch's names may not hold points.
        self.p = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(tensors[name].clone()) for name in names})
        self.linear = "encoder.linear.weight" in tensors

    def at(self, name):
        return self.p[name.replace(".", "/")]

    def named(self):
        return {name.replace("/", "."): parameter for name, parameter in self.p.items()}

    def conv(self, name, x, stride=1):
        weight = self.at(f"{name}.weight")
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self.at(f"{name}.bias"), stride, padding)

    def up(self, name, x):
        weight = self.at(f"{name}.weight")
        return F.conv_transpose2d(x, weight, self.at(f"{name}.bias"), weight.shape[-1])

    def norm(self, name, x):
        channels = x.shape[1]
        groups = next(g for g in range(max(channels // CHANNELS_A_GROUP, 1), 0, -1) if channels % g == 0)
        return F.silu(F.group_norm(x, groups, self.at(f"{name}.weight"), self.at(f"{name}.bias"), EPSILON))

    def residual(self, name, x):
        branch = self.conv(f"{name}.conv1", self.norm(f"{name}.norm1", x))
        return x + self.conv(f"{name}.conv2", self.norm(f"{name}.norm2", branch))

    def per_view(self, x, of_view):
        """Adds to each view of every mesh what belongs to it; `[6, ...]`, or `[B, 1, ...]` for all views of a mesh."""
        return (x.unflatten(0, (-1, VIEWS)) + of_view).flatten(0, 1)

    def exchange(self, name, x):
        mean = self.norm(f"{name}.norm", x).unflatten(0, (-1, VIEWS)).mean(1)
        return self.per_view(x, self.conv(f"{name}.conv", mean).unsqueeze(1))

    def seen(self, planes):
        """Planes as rasterised to what the network encodes and is trained to decode."""
        return filled(planes) if self.a.get("fill_background") else planes

    def shown(self, decoded):
        """What the network decodes as planes."""
        return emptied(decoded) if self.a.get("fill_background") else decoded

    def encode(self, planes):
        a = self.a
        x = self.conv("encoder.stem", planes, a["stem"])
        top = len(a["widths"]) - 1
        for level, blocks in enumerate(a["encoder_blocks"]):
            if level > 0:
                x = self.conv(f"encoder.{level}.down", x, 2)
            if level == top and a["embedding"]:
                x = self.per_view(x, self.at("encoder.embedding"))
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
            x = self.per_view(x, self.at("decoder.embedding"))
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
        # Depth comes out in units of the loss.
        scale = torch.ones(a["channels"], dtype=decoded.dtype)
        scale[0] = 1 / a["depth_scale"]
        return decoded * scale.view(1, -1, 1, 1) + self.up("decoder.linear", latent)

    def forward(self, planes):
        return self.decode(self.encode(planes))

    def rate(self, name):
        """The factor on the learning rate of a parameter."""
        a = self.a
        if self.linear and name.startswith("encoder.out."):
            return ENCODER_RATE
        if ".linear." in name:
            return min(LINEAR_RATE_PATCH / (a["patch"] ** 2 * a["channels"]), 1.0)
        return 1.0


def silhouette_floor(foreground):
    """World distance to the nearest foreground pixel less one pixel, at most TAU; -TAU on it. `[6 B, N, N]`."""
    size = foreground.shape[-1]
    reach = min(int(TAU * size / 2) + 2, size)
    squares = torch.where(foreground, 0.0, math.inf)
    # Along columns, then along rows.
    for axis in (-2, -1):
        shifts = range(-reach, reach + 1)
        padded = F.pad(squares, [0, 0, reach, reach] if axis == -2 else [reach, reach, 0, 0], value=math.inf)
        moved = (padded.narrow(axis, reach + shift, size) + shift**2 for shift in shifts)
        squares = functools.reduce(torch.minimum, moved)
    nearest = squares.sqrt()
    distance = ((nearest - 1) * 2 / size).clamp(max=TAU)
    return torch.where(foreground, torch.full_like(distance, -TAU), distance)


def field_loss(planes, points, distances):
    """mean |f(p) - clamp(sdf(p))| with f the largest of the six views' votes (docs/method.md, "Field", "Training")."""
    size, meshes = planes.shape[-1], points.shape[0]
    pixels = planes.permute(0, 2, 3, 1).reshape(meshes, VIEWS, size * size, 4)
    with torch.no_grad():
        foreground = planes[:, 1:].square().sum(1) >= 0.25
        floor = silhouette_floor(foreground).to(planes.dtype).reshape(meshes, VIEWS, -1)
        foreground = foreground.reshape(meshes, VIEWS, -1)
    best = []
    for view, (right, up, forward) in enumerate(CAMERAS.to(planes.dtype)):
        def position(coordinate):
            x = ((coordinate + 1) * 0.5 * size - 0.5).clamp(0, size - 1)
            index = x.long().clamp(max=size - 2)
            return index, x - index

        (column, across), (row, down) = position(points @ right), position(-(points @ up))
        w, value = points @ forward, 0.0
        for below, right_of, weight in (
            (0, 0, (1 - across) * (1 - down)), (0, 1, across * (1 - down)),
            (1, 0, (1 - across) * down), (1, 1, across * down),
        ):
            index = (row + below) * size + column + right_of
            pixel = pixels[:, view].gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
            seen = foreground[:, view].gather(1, index)
            normal = torch.where(seen.unsqueeze(-1), pixel[..., 1:], torch.ones_like(pixel[..., 1:]))
            away = (normal @ forward) / normal.norm(dim=-1)
            vote = (2 * pixel[..., 0] - 1 - w) * (-away).clamp(min=LEAST_SLOPE)
            vote = torch.where(away > FACES_AWAY, torch.full_like(vote, -TAU), vote)
            vote = torch.where(seen, vote, floor[:, view].gather(1, index))
            value = value + weight * vote.clamp(-TAU, TAU)
        best.append(value)
    return (torch.stack(best).max(0).values - distances.clamp(-TAU, TAU)).abs().mean()


def schedule_factor(settings, step):
    """The factor on the learning rate at `step`, from 0 (nn::schedule)."""
    schedule, steps = settings["training"]["schedule"], settings["training"]["steps"]
    if schedule == "constant":
        return 1.0
    warm_up = min(max(steps // {"cosine": 20, "plateau": 10}[schedule], 1), 100)
    if step < warm_up:
        return (step + 1) / warm_up
    if schedule == "plateau":
        left = min(max(steps - step, 0) / (0.3 * steps), 1.0)
    else:
        progress = min((step - warm_up) / max(steps - warm_up, 1), 1.0)
        left = 0.5 * (1 + math.cos(math.pi * progress))
    return 0.02 + 0.98 * left


class Step:
    """A training step of a run folder's checkpoint: forward, backward, clipping, Adam."""

    def __init__(self, run, layout=torch.contiguous_format, compiled=False):
        self.settings = settings_of(run)
        with safe_open(str(Path(run) / "checkpoint.safetensors"), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            facts = json.loads(file.metadata()["hexcuda"])
        self.step, self.layout = facts["step"], layout
        self.network = Network(self.settings, tensors)
        o = self.settings["optimiser"]
        groups = {}
        for name, parameter in self.network.named().items():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)
            groups.setdefault(self.network.rate(name), []).append(parameter)
        self.adam = torch.optim.Adam(
            [{"params": parameters, "rate": rate} for rate, parameters in groups.items()],
            lr=o["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"], fused=True,
        )
        for name, parameter in self.network.named().items():
            first, second = (tensors[f"adam.{moment}.{name}"] for moment in ("first", "second"))
            self.adam.state[parameter] = {
                "step": torch.tensor(float(facts["adam_updates"])),
                # In the memory format of the parameter.
                "exp_avg": torch.empty_like(parameter.data).copy_(first),
                "exp_avg_sq": torch.empty_like(parameter.data).copy_(second),
            }
        self.forward = torch.compile(self.network) if compiled else self.network

    def losses(self, planes, points, distances):
        training = self.settings["training"]
        decoded = self.forward(planes)
        weight = torch.ones(planes.shape[1], dtype=planes.dtype)
        weight[0] = training["depth_weight"]
        mse = ((decoded - planes).square() * weight.view(1, -1, 1, 1)).mean()
        if training["sdf_weight"] == 0:
            return mse, mse, planes.new_zeros(())
        sdf = field_loss(decoded, points, distances)
        return mse + training["sdf_weight"] * sdf, mse, sdf

    def gradients(self, planes, points, distances):
        """(total, reconstruction, sdf); the gradients are left in the parameters."""
        self.adam.zero_grad(set_to_none=True)
        losses = self.losses(planes.contiguous(memory_format=self.layout), points, distances)
        losses[0].backward()
        return losses

    def update(self):
        """Clips and updates; the norm before clipping."""
        o = self.settings["optimiser"]
        clip = o["clip_norm"] if o["clip_norm"] > 0 else math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), clip)
        factor = schedule_factor(self.settings, self.step)
        for group in self.adam.param_groups:
            group["lr"] = o["learning_rate"] * factor * group["rate"]
        self.adam.step()
        self.step += 1
        return norm


def relative(ours, theirs):
    """Relative L2 distance of two arrays, in f64; 0 where both are zero."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    apart, size = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
    return float(apart / size) if size > 0 else float(apart > 0)
