#!/usr/bin/env python3
"""How the geometry grows: rasteriser, extraction, signed distances and comparison from 1 k to 10 M items, beside peers.

    cargo build --release --example growth
    python tools/peers/growth.py measure FILE.json [--works rasterize extract distances compare] [--threads 2]
    python tools/peers/growth.py table FILE.json
    python tools/peers/growth.py plot FILE.json OUT.png

`measure` adds to FILE.json. Items are triangles of a bumpy sphere (rasterize: six planes of 512 x 512, building included, as
Open3D's), samples of the grid (extract: from planes of 512 of a sphere of 20,000 triangles, the field included; peers: the
surface of a dense volume of that size in memory), points in the cube (distances to that sphere, building included on
all sides) and samples a side (compare: all metrics; Open3D: the distances of the same number of points to both meshes). Each
is run for two seconds, at least once, in a process of its own; the median counts. A peer that takes more than 3 s is not
asked for more. Needs numpy, and of open3d, libigl, pysdf, scikit-image, vtk and matplotlib what is there."""

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import distance

EXAMPLE = Path(__file__).resolve().parents[2] / "target/release/examples/growth"
SIZES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
# Samples an edge: their cubes are about SIZES, and the largest that is ordinary work.
GRIDS = [10, 22, 46, 100, 215, 512]
TRIANGLES = 20_000
SECONDS, RUNS, ENOUGH = 2.0, 15, 3.0
WORKS = {
    "rasterize": "six planes of 512 x 512: triangles",
    "extract": "planes 512 to mesh: grid samples",
    "distances": "signed distances, build included: points",
    "compare": "all metrics of two meshes: samples a side",
}


def sphere(count):
    """Vertices and about `count` outward triangles of a closed sphere with bumps."""
    rows = max(int((count / 4) ** 0.5), 2)
    columns = 2 * rows
    v, u = np.meshgrid(np.linspace(0, np.pi, rows + 1)[1:-1], np.arange(columns) * 2 * np.pi / columns, indexing="ij")
    ball = np.stack([np.sin(v) * np.cos(u), np.cos(v), np.sin(v) * np.sin(u)], -1).reshape(-1, 3)
    points = np.vstack([ball, [[0, 1, 0], [0, -1, 0]]])
    radius = 0.85 + 0.03 * np.sin(9 * points[:, :1]) * np.sin(11 * points[:, 1:2]) * np.sin(10 * points[:, 2:])
    grid = np.arange(len(ball)).reshape(-1, columns)
    right = np.roll(grid, -1, 1)
    a, b, c, d = grid[:-1], right[:-1], grid[1:], right[1:]
    top, bottom = np.full(columns, len(ball)), np.full(columns, len(ball) + 1)
    parts = [(a, b, c), (b, d, c), (top, right[0], grid[0]), (bottom, grid[-1], right[-1])]
    triangles = np.concatenate([np.stack(part, -1).reshape(-1, 3) for part in parts])
    return np.ascontiguousarray(points * radius, np.float32), np.ascontiguousarray(triangles, np.uint32)


def write_ply(path, vertices, triangles):
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<u4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    header = (f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\nproperty float x\n"
              f"property float y\nproperty float z\nelement face {len(triangles)}\n"
              "property list uchar uint vertex_indices\nend_header\n")
    with open(path, "wb") as file:
        file.write(header.encode() + vertices.astype("<f4").tobytes() + faces.tobytes())


def median_seconds(work):
    seconds, begin = [], time.perf_counter()
    while len(seconds) < RUNS and (not seconds or time.perf_counter() - begin < SECONDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def rasterize_peers(size, threads):
    import open3d as o3d

    import raycast
    vertices, triangles = sphere(size)
    mesh = o3d.core.Tensor(vertices), o3d.core.Tensor(triangles)
    queries = o3d.core.Tensor(raycast.rays())
    return {"Open3D": lambda: raycast.cast(o3d, *mesh, queries, threads)}


def extract_peers(grid, threads):
    import marching_cubes
    import vtk
    vtk.vtkSMPTools.Initialize(threads)
    volume = marching_cubes.head(grid)
    image = marching_cubes.vtk_image(volume)
    return {
        "VTK FlyingEdges": lambda: marching_cubes.vtk_run(vtk.vtkFlyingEdges3D, image),
        "scikit-image": lambda: marching_cubes.skimage_run(volume),
    }


def distances_peers(count, threads):
    vertices, triangles = sphere(TRIANGLES)
    points = np.random.default_rng(0).uniform(-1, 1, (count, 3)).astype(np.float32)
    names = {"open3d": "Open3D", "libigl": "libigl", "pysdf": "pysdf"}
    return {
        names[name]: lambda run=run, module=module: run(module, vertices, triangles, points, threads)
        for name, (module, run) in distance.installed().items()
    }


def compare_peers(count, _threads):
    import open3d as o3d
    meshes = [sphere(TRIANGLES), sphere(200_000)]
    rng = np.random.default_rng(0)

    def both():
        for (vertices, triangles), (others, _) in zip(meshes, meshes[::-1]):
            scene = o3d.t.geometry.RaycastingScene()
            scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles))
            points = others[rng.integers(0, len(others), count)]
            scene.compute_distance(o3d.core.Tensor(points))

    return {"Open3D, distances alone": both}


PEERS = {"rasterize": rasterize_peers, "extract": extract_peers, "distances": distances_peers, "compare": compare_peers}


def time_peer(pipe, work, size, name, threads):
    """In a process of its own, so that its memory is its own too."""
    distance.limit_threads(threads)
    try:
        peers = PEERS[work](size, threads)
        seconds = median_seconds(peers[name]) if name else None
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((sorted(peers), {"seconds": seconds, "peak_bytes": peak}))
    except ImportError as error:
        print(f"{work}: a peer is left out: {error}", file=sys.stderr)
        pipe.send(([], None))


def apart(*arguments):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=time_peer, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def measure(work, threads, example):
    rows, finished = [], set()
    names, _ = apart(work, 10 if work == "extract" else 1_000, None, threads)
    with tempfile.TemporaryDirectory() as folder:
        mesh = Path(folder) / "mesh.ply"
        write_ply(mesh, *sphere(TRIANGLES))
        for size in GRIDS if work == "extract" else SIZES:
            if work == "rasterize":
                write_ply(mesh, *sphere(size))
            count = 512 if work == "rasterize" else size
            command = [example, work, str(mesh), str(count)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            items = size ** 3 if work == "extract" else row["triangles"] if work == "rasterize" else size
            rows.append({"work": work, "who": "hexcuda", "items": items, **row})
            for name in names:
                if name not in finished:
                    _, found = apart(work, size, name, threads)
                    rows.append({"work": work, "who": name, "items": items, **found})
                    finished |= {name} if found["seconds"] > ENOUGH else set()
            print(work, f"{items:,}", *(f"{row['who']} {row['seconds']:.4f} s" for row in rows if row["items"] == items),
                  file=sys.stderr)
    return rows


def table(rows):
    """Milliseconds by items, as Markdown."""
    for work, title in WORKS.items():
        own = [row for row in rows if row["work"] == work]
        names = list(dict.fromkeys(row["who"] for row in own))
        at = {(row["who"], row["items"]): row for row in own}
        what, unit = title.rsplit(": ", 1)
        print(f"\n| {what}; {unit} |", " | ".join(f"{name}, ms" for name in names), "| hexcuda's peak memory, MiB |")
        print("|---" * (len(names) + 2) + "|")
        for items in sorted({row["items"] for row in own}):
            times = [1e3 * at[name, items]["seconds"] if (name, items) in at else None for name in names]
            cells = ["" if ms is None else f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" for ms in times]
            print(f"| {items:,} |", " | ".join(cells), f"| {at['hexcuda', items]['peak_bytes'] / 2**20:,.0f} |")


def plot(rows, out):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    colours = {"hexcuda": "#c0392b"}
    for axes, (work, title) in zip(panels.flat, WORKS.items()):
        own = [row for row in rows if row["work"] == work]
        for name in dict.fromkeys(row["who"] for row in own):
            line = [(row["items"], 1e3 * row["seconds"]) for row in own if row["who"] == name]
            axes.plot(*zip(*line), marker="o", ms=4, label=name, color=colours.get(name), lw=2.2 if name == "hexcuda" else 1.3)
        what, unit = title.rsplit(": ", 1)
        axes.set(xscale="log", yscale="log", xlabel=unit, ylabel="milliseconds", title=what)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(out, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["measure", "table", "plot"])
    parser.add_argument("file")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--example", default=str(EXAMPLE), help="the built example `growth`")
    arguments = parser.parse_args()
    path = Path(arguments.file)
    rows = json.loads(path.read_text()) if path.exists() else []
    if arguments.command == "plot":
        plot(rows, arguments.out)
    elif arguments.command == "table":
        table(rows)
    else:
        distance.limit_threads(arguments.threads)
        for work in arguments.works:
            rows = [row for row in rows if row["work"] != work] + measure(work, arguments.threads, arguments.example)
            path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
