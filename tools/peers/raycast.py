#!/usr/bin/env python3
"""Six planes: hexcuda's rasteriser beside Open3D's RaycastingScene, on one mesh and the same rays.

    cargo build --release
    python tools/peers/raycast.py MESH target/release/hexcuda [--threads 2] [--rounds 3]

Needs open3d and numpy. Both sides get the mesh in memory and give depth and normals of the six orthographic
views of 512 x 512 pixels. hexcuda's time includes everything it builds from the mesh; Open3D's is given
with its scene built and with the building of it. Both run in turns on the same number of threads. Prints one
JSON object: medians in milliseconds, their ratio (times_faster: rays alone; times_faster_with_build), and how
far the planes agree: pixels covered by one of the two alone, differences of depth, and angles of the face
normals (degrees) over the pixels covered by both. Pixels where the two see different surfaces (rays along
an edge) are counted apart, as other_surface."""

import argparse
import json
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

import distance

SIZE = 512
# forward, right, up of top, bottom, front, back, left, right.
VIEWS = [
    ((0, -1, 0), (1, 0, 0), (0, 0, -1)),
    ((0, 1, 0), (1, 0, 0), (0, 0, 1)),
    ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, 1), (-1, 0, 0), (0, 1, 0)),
    ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),
    ((1, 0, 0), (0, 0, 1), (0, 1, 0)),
]
# Depths further apart than this are of different surfaces.
OTHER_SURFACE = 1e-3


def rays():
    """[6, SIZE, SIZE, 6]: origins on the near face of the cube, directions that cross it in t = 1."""
    centres = (2 * np.arange(SIZE) + 1) / SIZE - 1
    v, u = np.meshgrid(-centres, centres, indexing="ij")
    out = np.empty((6, SIZE, SIZE, 6), np.float32)
    for view, axes in enumerate(VIEWS):
        forward, right, up = (np.array(axis, float) for axis in axes)
        out[view, ..., :3] = u[..., None] * right + v[..., None] * up - forward
        out[view, ..., 3:] = 2 * forward
    return out


def normalised(o3d, path):
    """Corners [3 F, 3] in the cube: centre at the origin, longest half-extent 0.9."""
    mesh = o3d.io.read_triangle_mesh(path)
    points, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    if not len(triangles):
        raise SystemExit(f"{path}: Open3D finds no triangles in it; use a GLB, PLY or OBJ file")
    corners = points[triangles.reshape(-1)]
    low, high = corners.min(0), corners.max(0)
    return np.ascontiguousarray((corners - (low + high) / 2) * (1.8 / (high - low).max()), np.float32)


def read_planes(path):
    """The fp32 tensor `planes` of a safetensors file."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + length])["planes"]
    start, end = entry["data_offsets"]
    return np.frombuffer(data[8 + length + start:8 + length + end], "<f4").reshape(entry["shape"])


def agreement(planes, depth, normals):
    ours = planes.transpose(0, 2, 3, 1) if planes.shape[1] == 4 else planes
    hit, theirs = np.linalg.norm(ours[..., 1:], axis=-1) > 0.5, np.isfinite(depth)
    both = hit & theirs
    apart = np.abs(ours[..., 0] - depth)[both]
    same = apart < OTHER_SURFACE
    a, b = ours[..., 1:][both][same].astype(float), normals[both][same].astype(float)
    b /= np.linalg.norm(b, axis=-1, keepdims=True)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))
    return {
        "pixels": hit.size,
        "covered": int(hit.sum()),
        "covered_by_one": int((hit != theirs).sum()),
        "other_surface": int((~same).sum()),
        "depth_median": float(np.median(apart[same])),
        "depth_99.9%": float(np.quantile(apart[same], 0.999)),
        "angle_median": float(np.median(angles)),
        "angle_99.9%": float(np.quantile(angles, 0.999)),
    }


def cast(o3d, points, triangles, queries, threads):
    """Milliseconds to build the scene and to cast the rays, and what they hit."""
    start = time.perf_counter()
    scene = o3d.t.geometry.RaycastingScene(threads)
    scene.add_triangles(points, triangles)
    # The tree is built by the first query.
    scene.cast_rays(queries[0, 0, :1], threads)
    built = time.perf_counter()
    hits = scene.cast_rays(queries, threads)
    return 1e3 * (built - start), 1e3 * (time.perf_counter() - built), hits


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mesh")
    parser.add_argument("hexcuda", help="the built binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    distance.limit_threads(arguments.threads)
    import open3d as o3d

    corners = normalised(o3d, arguments.mesh)
    points = o3d.core.Tensor(corners)
    triangles = o3d.core.Tensor(np.arange(len(corners), dtype=np.uint32).reshape(-1, 3))
    queries = o3d.core.Tensor(rays())

    build, cast_ms, ours = [], [], []
    for _ in range(arguments.rounds):
        command = [arguments.hexcuda, "bench", arguments.mesh, "--preset", "quick", "--runs", "9", "--json"]
        rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]
        ours.append(next(row["median_ms"] for row in rows if row["name"].startswith("six planes of 512x512")))
        for _ in range(3):
            built, casted, hits = cast(o3d, points, triangles, queries, arguments.threads)
            build.append(built)
            cast_ms.append(casted)

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "planes.safetensors")
        command = [arguments.hexcuda, "rasterize", arguments.mesh, "-o", path, "--size", str(SIZE)]
        subprocess.run([*command, "--normals", "face"], check=True)
        agreed = agreement(read_planes(path), hits["t_hit"].numpy(), hits["primitive_normals"].numpy())
    ours, cast_ms, build = (float(np.median(times)) for times in (ours, cast_ms, build))
    print(json.dumps({
        "triangles": len(corners) // 3,
        "threads": arguments.threads,
        "hexcuda_ms": ours,
        "open3d": {"version": o3d.__version__, "cast_ms": cast_ms, "build_ms": build},
        "times_faster": cast_ms / ours,
        "times_faster_with_build": (cast_ms + build) / ours,
        "agreement": agreed,
    }, indent=1))


if __name__ == "__main__":
    main()
