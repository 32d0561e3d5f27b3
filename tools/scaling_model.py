#!/usr/bin/env python3
"""A model of training on a million meshes with 64 cards: compute, network, storage. Nothing of it was run.

    python3 tools/scaling_model.py                          # prints the tables
    python3 tools/scaling_model.py -o docs/scaling.md [--check]

Writes the tables between the marks of the document; --check exits with 1 where the document says something else.
Figures of the program come from the document that measured or counted them: the operations of a step from
docs/kernels.md. Everything that is assumed stands below, under ASSUMED, and is printed with the tables."""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- model -->", "<!-- end of model -->"

# Of preset paper: docs/performance.md, docs/method.md.
PARAMETERS = 37_875_976
PLANES = 6 * 512 * 512 * 4 * 2  # bytes of a mesh in fp16
# Of a mesh of 20,000 triangles in a set: docs/datasets.md.
POINTS = 8192 * 16
MESH = 480_000
# Processor time of building one such mesh's record with planes of 512, measured: docs/scaling.md, "Building a set".
BUILD_SECONDS = 0.100

MESHES = 1_000_000
CARDS = 64
NODES = 8

# ASSUMED. Cards: dense peak of the tensor cores in TFLOP/s as NVIDIA's data sheets give it.
PEAKS = {
    "A100 SXM, tf32": 156.0,
    "A100 SXM, bf16": 312.0,
    "H100 SXM, tf32": 494.5,
    "H100 SXM, bf16": 989.0,
}
# Share of that peak which a whole step reaches. The predicted step of docs/kernels.md reaches 74 to 84 % on a card of 12.7
# TFLOP/s, whose memory is fast beside its tensor cores; on these it is the other way round.
SHARE = 0.3
# Of a step that is backward, beside which gradients are summed: two of three products of a convolution.
BACKWARD = 2 / 3
# What the last bucket, with nothing left to hide it, has of the gradients: 4 MiB.
LAST = 4 * 2**20
# The slowest link that a ring over all cards passes, in GB/s, and the time of one of its hops in seconds.
LINKS = {
    "10 Gb/s Ethernet a node": 1.25,
    "100 Gb/s a node": 12.5,
    "400 Gb/s a node": 50.0,
}
HOP = 5e-6
# Meshes a card and step.
BATCHES = (4, 16)
# What one rank writes to shared storage, GB/s.
WRITE = 2.0
CORES = 64  # of each node


def operations():
    """FLOP of the products of a step of 4 meshes, preset paper, as docs/kernels.md counts them."""
    total, inside = 0.0, False
    for line in (ROOT / "docs/kernels.md").read_text().splitlines():
        if line.startswith("| kernel | shape | launches | GFLOP |"):
            inside = True
        elif inside and not line.startswith("|"):
            break
        elif inside and not line.startswith("| ---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            total += float(cells[2]) * float(cells[3].replace(",", ""))
    if not total:
        sys.exit("docs/kernels.md: no table of convolutions")
    return total * 1e9


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(seconds):
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def document():
    a_mesh = operations() / 4
    gradients = 4 * PARAMETERS
    ring = 2 * (CARDS - 1) / CARDS * gradients
    read = PLANES + POINTS
    record = PLANES + POINTS + MESH
    parts = [
        f"Assumed: {100 * SHARE:.0f} % of the peak in a whole step, {100 * BACKWARD:.0f} % of a step backward, {1e6 * HOP:.0f} µs a hop, "
        f"one rank that writes {WRITE:.0f} GB/s, nodes of {CARDS // NODES} cards and {CORES} cores. Counted: "
        f"{a_mesh / 1e9:.0f} GFLOP of products a mesh and step (docs/kernels.md), {PARAMETERS:,} parameters, "
        f"{read / 1e6:.1f} MB read a mesh and step.",
        "",
        "**Compute**: F b / (P s), F the operations of a mesh, b meshes a card, P the peak, s the share of it.",
        "",
    ]
    rows = []
    for card, peak in PEAKS.items():
        row = [card]
        for batch in BATCHES:
            step = a_mesh * batch / (peak * 1e12 * SHARE)
            steps = MESHES / (CARDS * batch)
            row += [duration(step), duration(step * steps)]
        rows.append(row)
    head = ["card"]
    for batch in BATCHES:
        head += [f"step of {batch} a card", f"epoch of {MESHES / (CARDS * batch):,.0f} steps"]
    parts += [table(head, rows), ""]
    parts += [
        f"**Network**: G = 4 x {PARAMETERS:,} = {gradients / 1e6:.1f} MB of gradients; in a ring of N = {CARDS} each card sends "
        f"2 (N - 1) / N G = {ring / 1e6:.0f} MB a step over the slowest link W, in 2 (N - 1) hops: 2 (N - 1) / N G / W + 2 (N - 1) h. "
        "Of that max(0, whole - backward) is not hidden, and never less than the last bucket's share.",
        "",
    ]
    rows = []
    for link, bandwidth in LINKS.items():
        whole = ring / (bandwidth * 1e9) + 2 * (CARDS - 1) * HOP
        last = 2 * (CARDS - 1) / CARDS * LAST / (bandwidth * 1e9) + 2 * (CARDS - 1) * HOP
        row = [link, duration(whole)]
        for card in ("A100 SXM, tf32", "H100 SXM, bf16"):
            for batch in BATCHES:
                step = a_mesh * batch / (PEAKS[card] * 1e12 * SHARE)
                shown = max(last, whole - BACKWARD * step)
                row.append(f"{duration(shown)} ({100 * step / (step + shown):.0f} %)")
        rows.append(row)
    head = ["slowest link", "a sum"]
    head += [f"not hidden: {card}, {b} a card (efficiency)" for card in ("A100 SXM, tf32", "H100 SXM, bf16") for b in BATCHES]
    parts += [table(head, rows), ""]
    parts += [
        f"**Storage**: a record is {record / 1e6:.1f} MB (planes {PLANES / 1e6:.2f}, points {POINTS / 1e6:.2f}, mesh {MESH / 1e6:.2f}), "
        f"the set {record * MESHES / 1e12:.1f} TB. An epoch reads {read * MESHES / 1e12:.1f} TB; the storage must give N b R / t, R what a mesh's "
        "step reads and t the time of a step, unless nodes keep their own copy of the set.",
        "",
    ]
    rows = []
    for card, peak in PEAKS.items():
        rate = CARDS * read / (a_mesh / (peak * 1e12 * SHARE))
        rows.append([card, f"{CARDS / (a_mesh / (peak * 1e12 * SHARE)):,.0f}", f"{rate / 1e9:.0f} GB/s", f"{rate / NODES / 1e9:.1f} GB/s"])
    parts += [table(["card", "meshes a second", "read by all", "read by a node"], rows), ""]
    build, write = BUILD_SECONDS * MESHES, record * MESHES / (WRITE * 1e9)
    parts += [
        f"**Building the set**: {1e3 * BUILD_SECONDS:.0f} ms of processor time a mesh are {build / 3600:.0f} core hours, {duration(build / (NODES * CORES))} "
        f"on {NODES * CORES} cores; one rank writes {record * MESHES / 1e12:.1f} TB in {duration(write)}, which bounds it.",
    ]
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = document()
    if arguments.out is None:
        print(text)
        return
    old = arguments.out.read_text()
    new = re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{text}\n\n{END}", old)
    if arguments.check and new != old:
        sys.exit(f"{arguments.out} differs from what tools/scaling_model.py writes: run it with -o {arguments.out}")
    arguments.out.write_text(new)


main()
