#!/usr/bin/env python3
"""Bytes, times and errors of mesh compressors on the same meshes.

    tools/codecs.py MESH... [--hexcuda target/release/hexcuda] [--gltfpack "node cli.js"] [--run RUN] [--json OUT.json] [--plot OUT.png]

Runs Draco (draco_encoder and draco_decoder, Debian package draco) at several quantisations, meshoptimizer (gltfpack, npm) at several
quantisations and simplifications, Draco behind such a simplification, and the latents of a run with a codec at several rates, and measures what comes back with `hexcuda
compare`: F-score at 0.01 and 95 % Hausdorff distance in the normalised frame of the source. Only positions and triangles are given to them, which is all that a latent gives back. Times are
those of the whole program, start included. Prints a table of means over the meshes, and draws it. Needs trimesh, for the plot matplotlib.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import trimesh

DRACO_BITS = [11, 9, 8, 7, 6, 5]
# What meshoptimizer leaves of the triangles, and bits of Draco behind it.
SIMPLIFIED = [(0.25, 10), (0.1, 9), (0.05, 9), (0.02, 8), (0.01, 8)]
# --coarser of `hexcuda encode`.
COARSER = [16, 8, 4, 0, -4, -8]
GLTFPACK = [["-vp", "14"], ["-vp", "12"], ["-vp", "10"], ["-vp", "10", "-si", "0.5"], ["-vp", "10", "-si", "0.25"], ["-vp", "9", "-si", "0.1"]]


def run(*command):
    began = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command[0]}: {done.stderr or done.stdout}")
    return time.perf_counter() - began, done.stdout


def draco(source, folder, bits):
    """One mesh through Draco; positions of `bits` bits."""
    packed, back = folder / "mesh.drc", folder / "draco.ply"
    encode, _ = run("draco_encoder", "-i", source.with_suffix(".ply"), "-o", packed, "-qp", bits)
    decode, _ = run("draco_decoder", "-i", packed, "-o", back)
    return packed.stat().st_size, encode, decode, back


def simplified(program, source, folder, share, bits):
    """One mesh with fewer triangles through Draco."""
    plain, fewer = folder / "fewer.glb", folder / "fewer.ply"
    simplify, _ = run(*program, "-i", source.with_suffix(".obj"), "-o", plain, "-noq", "-si", share, "-sa")
    mesh = trimesh.load(plain, force="mesh", process=False)
    bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    bare.merge_vertices()
    bare.export(fewer, vertex_normal=False)
    size, encode, decode, back = draco(fewer, folder, bits)
    return size, simplify + encode, decode, back


def gltfpack(program, source, folder, options):
    """One mesh through meshoptimizer."""
    packed, plain, back = folder / "mesh.glb", folder / "plain.glb", folder / "gltfpack.ply"
    encode, _ = run(*program, "-i", source.with_suffix(".obj"), "-o", packed, "-cz", *options)
    decode, _ = run(*program, "-i", packed, "-o", plain, "-noq", "-vpf")
    trimesh.load(plain, force="mesh", process=False).export(back)
    return packed.stat().st_size, encode, decode, back


def latent(args, source, folder, coarser):
    """One mesh through the codec of a run."""
    packed, back = folder / "mesh.hexz", folder / "hexcuda.ply"
    encode, _ = run(args.hexcuda, "encode", "--run", args.run, source.with_suffix(".ply"), "-o", packed, f"--coarser={coarser}", "--quiet")
    decode, _ = run(args.hexcuda, "decode", "--run", args.run, packed, "-o", back)
    return packed.stat().st_size, encode, decode, back


def error(hexcuda, source, back):
    _, text = run(hexcuda, "compare", source, back, "--json")
    found = json.loads(text)
    score = next(score for score in found["scores"] if abs(score["threshold"] - 0.01) < 1e-6)
    return score["f_score"], found["hausdorff_95"]


def positions_alone(path, folder):
    """The mesh as PLY and OBJ without normals and the like."""
    mesh = trimesh.load(path, force="mesh", process=False)
    bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    bare.merge_vertices()
    for ending, options in ((".ply", {"vertex_normal": False}), (".obj", {"include_normals": False})):
        bare.export(folder / f"{path.stem}{ending}", **options)
    return folder / f"{path.stem}.ply", len(bare.vertices)


def measure(args, folder):
    coders = {f"Draco, {bits} bits": lambda source, bits=bits: draco(source, folder, bits) for bits in DRACO_BITS}
    if args.gltfpack:
        for options in GLTFPACK:
            name = f"gltfpack {' '.join(options)}"
            coders[name] = lambda source, options=options: gltfpack(args.gltfpack.split(), source, folder, options)
        for share, bits in SIMPLIFIED:
            name = f"gltfpack -si {share}, Draco {bits} bits"
            coders[name] = lambda source, share=share, bits=bits: simplified(args.gltfpack.split(), source, folder, share, bits)
    if args.run:
        for coarser in COARSER:
            coders[f"hexcuda --coarser {coarser}"] = lambda source, coarser=coarser: latent(args, source, folder, coarser)
    rows = []
    for path in args.meshes:
        source, vertices = positions_alone(path, folder)
        for name, coder in coders.items():
            size, encode, decode, back = coder(source)
            f_score, hausdorff = error(args.hexcuda, source, back)
            rows.append({"mesh": path.stem, "vertices": vertices, "coder": name, "bytes": size, "f_score": f_score,
                         "hausdorff_95": hausdorff, "encode_seconds": encode, "decode_seconds": decode})
            print(f"{path.stem}: {name}: {size} bytes", file=sys.stderr)
    return rows


def table(rows):
    lines = ["| coder | bytes | bits a vertex | F at 0.01 | 95 % Hausdorff | encode | decode |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["coder"] for row in rows):
        own = [row for row in rows if row["coder"] == name]
        mean = {key: statistics.mean(row[key] for row in own) for key in own[0] if key not in ("mesh", "coder")}
        bits = statistics.mean(8 * row["bytes"] / row["vertices"] for row in own)
        lines.append(f"| {name} | {mean['bytes']:,.0f} | {bits:.2f} | {mean['f_score']:.4f} | {mean['hausdorff_95']:.5f} "
                     f"| {1e3 * mean['encode_seconds']:.0f} ms | {1e3 * mean['decode_seconds']:.0f} ms |")
    return "\n".join(lines)


def plot(rows, path):
    """Both errors over the bytes, a line a program."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = list(dict.fromkeys(row["coder"] for row in rows))
    families = {
        "Draco": [name for name in names if name.startswith("Draco")],
        "meshoptimizer (gltfpack)": [name for name in names if name.startswith("gltfpack") and "Draco" not in name],
        "fewer triangles, then Draco": [name for name in names if name.startswith("gltfpack") and "Draco" in name],
        "hexcuda, heads it has not seen": [name for name in names if name.startswith("hexcuda")],
    }
    for (label, own_names), marker in zip(families.items(), "osD^"):
        points = []
        for name in own_names:
            own = [row for row in rows if row["coder"] == name]
            points.append([statistics.mean(row[key] for row in own) for key in ("bytes", "f_score", "hausdorff_95")])
        points.sort()
        for axis, at in zip(axes, (1, 2)):
            axis.plot([point[0] for point in points], [point[at] for point in points], marker=marker, label=label)
    axes[0].set_ylabel("F-score at 0.01")
    axes[1].set_ylabel("95 % Hausdorff distance")
    axes[1].set_yscale("log")
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xlabel("bytes a mesh")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", nargs="+", type=pathlib.Path)
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    parser.add_argument("--gltfpack", help="the command that runs gltfpack; left out without")
    parser.add_argument("--run", help="a run folder with a codec; left out without")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--plot", type=pathlib.Path)
    args = parser.parse_args()
    if not shutil.which("draco_encoder"):
        sys.exit("no draco_encoder found: install Debian's package draco")
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(args, pathlib.Path(folder))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    if args.plot:
        plot(rows, args.plot)
    print(table(rows))


if __name__ == "__main__":
    main()
