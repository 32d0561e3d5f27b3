#!/usr/bin/env python3
"""Signed distances: hexcuda beside Open3D, libigl and pysdf, on one mesh and the same points.

    cargo build --release --example distances
    python tools/peers/distance.py MESH [--points 1000000] [--near] [--threads 2]

Needs trimesh and numpy; open3d, libigl and pysdf each where it is installed, and says which is not. All take a mesh in
memory and build what they need of it; the time of a peer has its building in it, and so has hexcuda's. Prints one
JSON object: median seconds of each, how often hexcuda's time goes into a peer's (times_faster) and into the fastest
peer's, the largest difference of the unsigned distances, and the share of points whose sign differs: Open3D
counts the parity of ray crossings and hexcuda the winding number, which differ where shells overlap; libigl is asked
for its fast winding number; pysdf looks for the nearest vertex first and can miss the nearest triangle."""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).resolve().parents[2] / "target/release/examples/distances"


def limit_threads(threads):
    """Before the peers are loaded: TBB and OpenMP ask for the processors that they may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "IGL_NUM_THREADS"):
        os.environ[name] = str(threads)


def open3d(module, vertices, triangles, points, _threads):
    scene = module.t.geometry.RaycastingScene()
    scene.add_triangles(module.core.Tensor(vertices), module.core.Tensor(triangles))
    return scene.compute_signed_distance(module.core.Tensor(points)).numpy()


def libigl(module, vertices, triangles, points, _threads):
    kind = module.SignedDistanceType.SIGNED_DISTANCE_TYPE_FAST_WINDING_NUMBER
    return module.signed_distance(points.astype(float), vertices.astype(float), triangles.astype(np.int64), kind)[0]


def pysdf(module, vertices, triangles, points, threads):
    return -module.SDF(vertices, triangles)(points, n_threads=threads).reshape(-1)


# Name: module, and what builds and asks.
PEERS = {"open3d": ("open3d", open3d), "libigl": ("igl", libigl), "pysdf": ("pysdf", pysdf)}


def installed():
    """{name: (module, function)} of the peers that are there."""
    found = {}
    for name, (module, run) in PEERS.items():
        try:
            found[name] = importlib.import_module(module), run
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def hexcuda(example, vertices, triangles, points):
    """Median seconds of the parts, and the signed distances."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("triangles.npy", "points.npy", "out.npy")]
        np.save(files[0], vertices[triangles.reshape(-1)])
        np.save(files[1], points)
        run = subprocess.run([str(example), *files], check=True, capture_output=True, text=True)
        return json.loads(run.stdout), np.load(files[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mesh")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--near", action="store_true", help="points near the surface, not all over the cube")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--example", default=str(EXAMPLE), help="the built example `distances`")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    import trimesh

    mesh = trimesh.load(arguments.mesh, force="mesh", process=False)
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    low, high = mesh.bounds
    mesh.apply_translation(-(low + high) / 2)
    mesh.apply_scale(1.8 / (high - low).max())
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float32)
    triangles = np.ascontiguousarray(mesh.faces, dtype=np.uint32)
    rng = np.random.default_rng(0)
    if arguments.near:
        points = mesh.sample(arguments.points, seed=0) + rng.normal(0, 0.01, (arguments.points, 3))
    else:
        points = rng.uniform(-1, 1, (arguments.points, 3))
    points = np.ascontiguousarray(points, dtype=np.float32)

    peers, ours = installed(), []
    seconds, found = {name: [] for name in peers}, {}
    for _ in range(arguments.rounds):
        parts, signed = hexcuda(arguments.example, vertices, triangles, points)
        ours.append(parts)
        for name, (module, run) in peers.items():
            start = time.perf_counter()
            found[name] = run(module, vertices, triangles, points, arguments.threads)
            seconds[name].append(time.perf_counter() - start)
    ours = {key: float(np.median([parts[key] for parts in ours])) for key in ("build", "unsigned", "inside", "signed")}
    whole = ours["build"] + ours["signed"]
    theirs = {name: float(np.median(times)) for name, times in seconds.items()}
    print(json.dumps({
        "triangles": len(triangles),
        "points": len(points),
        "threads": arguments.threads,
        "hexcuda": ours | {"build_and_signed": whole},
        "peers": {
            name: {
                "build_and_signed": theirs[name],
                "times_faster": theirs[name] / whole,
                "largest_difference": float(np.abs(np.abs(values) - np.abs(signed)).max()),
                "signs_that_differ": float(((values < 0) != (signed < 0)).mean()),
            } for name, values in found.items()
        },
        "times_faster_than_fastest": min(theirs.values()) / whole if theirs else None,
    }, indent=1))


if __name__ == "__main__":
    main()
