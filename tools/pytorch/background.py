"""Depth behind silhouettes, as networks with `fill_background` see it (src/hexplane/fill.rs)."""

import torch
from torch.nn import functional


def foreground(planes):
    """Of planes `[images, 4, N, N]`, as `[images, 1, N, N]`."""
    return planes[:, 1:].square().sum(1, keepdim=True) >= 0.25


def completed(depth, weight):
    """Depths by push-pull: where the weight is 0, from means of what is known at half the resolution."""
    if bool((weight > 0).all()):
        return depth
    total = lambda x: functional.avg_pool2d(x, 2, ceil_mode=True, divisor_override=1)
    count = total(weight)
    coarse = completed(total(depth * weight) / count.clamp(min=1), (count > 0).to(depth.dtype))
    height, width = depth.shape[-2:]
    up = coarse.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]
    padded = functional.pad(up, (1, 1, 1, 1), mode="replicate")
    beside = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return torch.where(weight > 0, depth, 0.125 * beside + 0.5 * up)


def filled(planes):
    """Planes as the network sees them."""
    planes = planes.clone()
    for image, hit in zip(planes.split(1), foreground(planes).split(1)):
        if hit.any() and not hit.all():
            image[:, :1] = completed(image[:, :1], hit.to(planes.dtype))
    return planes


def emptied(planes):
    """What the network decodes as planes: background wherever the normal is shorter than a half."""
    far = torch.tensor([1, 0, 0, 0], dtype=planes.dtype).view(1, 4, 1, 1)
    return torch.where(foreground(planes), planes, far)
