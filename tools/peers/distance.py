#!/usr/bin/env python3
"""Signed distances: hexcuda beside Open3D's RaycastingScene, on one mesh and the same points.

    cargo build --release --example distances
    python tools/peers/distance.py MESH [--points 1000000] [--near]

Needs open3d, trimesh and numpy. Prints one JSON object: median seconds of each, their ratio, the largest
difference of the unsigned distances, and the share of points whose sign differs (Open3D counts the
parity of ray crossings, hexcuda the winding number: they differ where shells overlap)."""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import open3d as o3d
import trimesh

EXAMPLE = Path(__file__).resolve().parents[2] / "target/release/examples/distances"
RUNS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mesh")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--near", action="store_true", help="points near the surface, not all over the cube")
    parser.add_argument("--example", default=str(EXAMPLE), help="the built example `distances`")
    arguments = parser.parse_args()

    mesh = trimesh.load(arguments.mesh, force="mesh", process=False)
    low, high = mesh.bounds
    mesh.apply_translation(-(low + high) / 2)
    mesh.apply_scale(1.8 / (high - low).max())
    triangles = np.ascontiguousarray(mesh.triangles, dtype=np.float32)

    rng = np.random.default_rng(0)
    if arguments.near:
        points = mesh.sample(arguments.points, seed=0) + rng.normal(0, 0.01, (arguments.points, 3))
    else:
        points = rng.uniform(-1, 1, (arguments.points, 3))
    points = np.ascontiguousarray(points, dtype=np.float32)

    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("triangles.npy", "points.npy", "out.npy")]
        np.save(files[0], triangles.reshape(-1, 3))
        np.save(files[1], points)
        run = subprocess.run([arguments.example, *files], check=True, capture_output=True, text=True)
        ours, signed = json.loads(run.stdout), np.load(files[2])

    scene = o3d.t.geometry.RaycastingScene()
    corners = o3d.core.Tensor(triangles.reshape(-1, 3))
    scene.add_triangles(corners, o3d.core.Tensor(np.arange(3 * len(triangles), dtype=np.uint32).reshape(-1, 3)))
    queries, seconds = o3d.core.Tensor(points), []
    for _ in range(RUNS):
        start = time.perf_counter()
        theirs = scene.compute_signed_distance(queries)
        seconds.append(time.perf_counter() - start)
    theirs = theirs.numpy()
    print(json.dumps({
        "triangles": len(triangles),
        "points": len(points),
        "hexcuda": ours,
        "open3d": {"version": o3d.__version__, "signed": float(np.median(seconds))},
        "times_faster": float(np.median(seconds)) / ours["signed"],
        "largest_difference": float(np.abs(np.abs(theirs) - np.abs(signed)).max()),
        "signs_that_differ": float(((theirs < 0) != (signed < 0)).mean()),
    }, indent=1))


if __name__ == "__main__":
    main()
