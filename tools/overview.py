#!/usr/bin/env python3
"""The picture at the top of the README, from a run folder: mesh, planes, latent, planes, mesh.

    cargo build --release
    python tools/overview.py RUN [--out docs/images/overview.png] [--hexcuda target/release/hexcuda]

Everything shown is the program's own output: `input.ply`, `mesh.ply`, `decoded.safetensors` and the figures of
`summary.json` from the folder, the input's planes from `hexcuda rasterize`, the latent from `hexcuda encode`.
Needs numpy, open3d (ray casting; no display), pillow and safetensors.
"""

import argparse
import json
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import open3d as o3d
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import load_file

# right, up, forward of the six cameras: top, bottom, front, back, left, right (docs/method.md).
VIEWS = np.array(
    [
        [[1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
        [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, -1], [0, 1, 0], [-1, 0, 0]],
        [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    ],
    dtype=np.float32,
)
PAGE, CELL_BACK, INK, FAINT = (15, 17, 21), (28, 31, 38), (226, 229, 235), (138, 145, 158)
DEPTH_STOPS = [0.0, 0.15, 0.35, 0.6, 1.0]
DEPTH_COLOURS = np.array([[1, 0.95, 0.75], [1, 0.85, 0.55], [0.95, 0.45, 0.35], [0.55, 0.15, 0.5], [0.15, 0.06, 0.3]])
CELL, GUTTER, MARGIN, LINE = 112, 6, 24, 22
RENDER = (380, 5 * CELL + 4 * GUTTER)
SUPERSAMPLING = 3


def render(path, turn_degrees=32.0):
    """A clay render from the front left, slightly above; orthographic."""
    mesh = o3d.io.read_triangle_mesh(str(path))
    mesh.compute_vertex_normals()
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))

    turn, tilt = np.radians(turn_degrees), np.radians(8)
    forward = -np.array([np.sin(turn) * np.cos(tilt), np.sin(tilt), np.cos(turn) * np.cos(tilt)])
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)

    along = np.asarray(mesh.vertices) @ np.stack([right, up, forward], -1)
    low, high = along.min(0), along.max(0)
    centre = (low + high) / 2
    width, height = (SUPERSAMPLING * n for n in RENDER)
    pixel = 1.02 * max((high - low)[0] / width, (high - low)[1] / height)
    v, u = np.meshgrid(
        centre[1] + (height / 2 - np.arange(height) - 0.5) * pixel,
        centre[0] + (np.arange(width) + 0.5 - width / 2) * pixel,
        indexing="ij",
    )
    origins = u[..., None] * right + v[..., None] * up + (2 * low[2] - high[2]) * forward
    rays = np.concatenate([origins, np.broadcast_to(forward, origins.shape)], -1).astype(np.float32)
    hits = scene.cast_rays(o3d.core.Tensor(rays))
    hit = np.isfinite(hits["t_hit"].numpy())
    corners = np.asarray(mesh.triangles)[hits["primitive_ids"].numpy()[hit]]
    a, b = hits["primitive_uvs"].numpy()[hit].T
    weights = np.stack([1 - a - b, a, b], -1)
    normals = (np.asarray(mesh.vertex_normals)[corners] * weights[..., None]).sum(1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)

    light = lambda direction, strength: strength * np.clip(normals @ (direction / np.linalg.norm(direction)), 0, None)
    key, fill = light(-forward - 0.7 * right + 0.9 * up, 0.85), light(-forward + 1.2 * right, 0.25)
    clay = np.array([0.80, 0.66, 0.55])
    image = np.empty((height, width, 3))
    image[:] = (np.array(PAGE) / 255) ** 2.2
    image[hit] = clay * (0.06 + key + fill)[:, None]
    image = image.reshape(RENDER[1], SUPERSAMPLING, RENDER[0], SUPERSAMPLING, 3).mean((1, 3))
    return Image.fromarray((255 * np.clip(image, 0, 1) ** (1 / 2.2)).astype(np.uint8))


def cell(values, back):
    """[N, N, 3] in [0, 1] to a cell; `back` is where nothing is hit."""
    pixels = np.where(back[..., None], CELL_BACK, 255 * np.clip(values, 0, 1)).astype(np.uint8)
    kind = Image.Resampling.BOX if len(pixels) > 2 * CELL else Image.Resampling.BILINEAR
    return Image.fromarray(pixels).resize((CELL, CELL), kind)


def plane_cells(path):
    """A row of depth and a row of normals as the camera sees them, from a planes file."""
    planes = load_file(str(path))["planes"].astype(np.float32)
    depth_row, normal_row = [], []
    for view, (depth, *normal) in zip(VIEWS, planes):
        normal = np.stack(normal, -1)
        length = np.linalg.norm(normal, axis=-1)
        back = length < 0.5
        camera = normal / np.maximum(length, 0.5)[..., None] @ (view * [[1], [1], [-1]]).T
        normal_row.append(cell(0.5 + 0.5 * camera, back))
        stops = [np.interp(depth, DEPTH_STOPS, channel) for channel in DEPTH_COLOURS.T]
        depth_row.append(cell(np.stack(stops, -1), back))
    return depth_row, normal_row


def latent_cells(path):
    """The first three latent channels of each view as red, green and blue."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 8)
    shape = json.loads(data[12 : 12 + length])["shape"]
    latent = np.frombuffer(data[12 + length : -4], "<f4").reshape(shape)
    scaled = (255 * np.clip(0.5 + latent[..., :3] / 5, 0, 1)).astype(np.uint8)
    return [Image.fromarray(view).resize((CELL, CELL), Image.Resampling.NEAREST) for view in scaled]


def compose(run, hexcuda):
    summary = json.loads((run / "summary.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        planes, latent = Path(folder) / "planes.safetensors", Path(folder) / "latent.hexz"
        size = str(summary["planes"])
        mesh = str(run / "input.ply")
        subprocess.run([hexcuda, "rasterize", mesh, "--size", size, "-o", planes], check=True)
        subprocess.run([hexcuda, "encode", "--quiet", "--run", run, mesh, "-o", latent], check=True)
        input_rows, latent_row = plane_cells(planes), latent_cells(latent)
    decoded_rows = plane_cells(run / "decoded.safetensors")
    rows = [*input_rows, latent_row, *decoded_rows]

    block = 6 * CELL + 5 * GUTTER
    stub = 78
    width = 4 * MARGIN + 2 * RENDER[0] + stub + block
    height = 2 * MARGIN + RENDER[1] + 3 * LINE
    page = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(15)
    top = MARGIN + LINE
    page.paste(render(run / "input.ply"), (MARGIN, top))
    page.paste(render(run / "mesh.ply"), (width - MARGIN - RENDER[0], top))
    left = 2 * MARGIN + RENDER[0] + stub
    names = ["depth", "normals", "latent", "depth", "normals"]
    for row, (name, cells) in enumerate(zip(names, rows)):
        y = top + row * (CELL + GUTTER)
        draw.text((left - 12, y + CELL // 2), name, FAINT, font, anchor="rm")
        for column, image in enumerate(cells):
            page.paste(image, (left + column * (CELL + GUTTER), y))
    for column, name in enumerate(["top", "bottom", "front", "back", "left", "right"]):
        draw.text((left + column * (CELL + GUTTER) + CELL // 2, top - 12), name, FAINT, font, anchor="mm")

    score = lambda which: next(s for s in summary[which]["scores"] if abs(s["threshold"] - 0.01) < 1e-6)["f_score"]
    floats, faces = summary["latent"]["floats"], summary["mesh"]["reference_health"]["faces"]
    captions = [
        (MARGIN + RENDER[0] // 2, "input", f"{faces:,} triangles"),
        (
            left + block // 2,
            f"six planes of {summary['planes']} x {summary['planes']} to {floats:,} floats and back",
            f"{summary['parameters']:,} parameters, {summary['steps']:,} steps",
        ),
        (
            width - MARGIN - RENDER[0] // 2,
            "decoded",
            f"F at 0.01: {score('mesh'):.4f} (ceiling {score('ceiling'):.4f})",
        ),
    ]
    for x, first, second in captions:
        draw.text((x, top + RENDER[1] + LINE - 6), first, INK, font, anchor="mm")
        draw.text((x, top + RENDER[1] + 2 * LINE - 6), second, FAINT, font, anchor="mm")
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/overview.png"))
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    arguments = parser.parse_args()
    page = compose(arguments.run, arguments.hexcuda)
    # 6 bits a channel keep the file small; the repository carries it.
    page.point(lambda value: min(255, (value + 2) // 4 * 4)).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {page.width} x {page.height}, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
