#!/usr/bin/env python3
"""Times of training steps with one process and with several ranks of the same global batch, in turns, so that a busy
machine is busy for all.

    cargo build --release --features mpi
    python3 tools/ranks.py [--ranks 1 2] [--rounds 5] [--steps 40] SET [options of hexcuda train]

A process has as many threads as the machine has cores, ranks share them. With more than one rank each round also runs
them without overlap (HEXCUDA_BUCKET_KIB=0). Prints the median step of each round's run (metrics.csv, without the first
quarter), their median and range, and what the run says of its sums."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def run(arguments, more, ranks, overlap, folder):
    """The median seconds of a step, and what summary.json has under `ranks`."""
    command = [str(arguments.hexcuda.resolve()), "train", str(arguments.set), "--quiet", "--out", str(folder), "--steps", str(arguments.steps), *more]
    environment = dict(os.environ)
    if ranks > 1:
        root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", *root, "-n", str(ranks), *command]
        if not overlap:
            environment["HEXCUDA_BUCKET_KIB"] = "0"
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL)
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    seconds = [float(row[1]) for row in rows]
    steps = [b - a for a, b in zip(seconds, seconds[1:])][len(seconds) // 4 :]
    return statistics.median(steps), json.loads((folder / "summary.json").read_text()).get("ranks")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hexcuda", type=pathlib.Path, default=ROOT / "target/release/hexcuda")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("set", type=pathlib.Path)
    arguments, more = parser.parse_known_args()
    kinds = [(ranks, overlap) for ranks in arguments.ranks for overlap in ([True] if ranks == 1 else [True, False])]
    found = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder:
                found[kind].append(run(arguments, more, *kind, pathlib.Path(folder) / "run"))
    first = statistics.median(step for step, _ in found[kinds[0]])
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for (ranks, overlap), results in found.items():
        steps = [1e3 * step for step, _ in results]
        middle = statistics.median(steps)
        line = f"{ranks} rank(s){'' if overlap else ', no overlap'}: {middle:.1f} ms a step ({min(steps):.1f} to {max(steps):.1f}), {1e3 * first / middle:.2f} of the first"
        if ranks > 1:
            flight, waited, hidden = (
                statistics.median(shared[key] for _, shared in results)
                for key in ("in_flight_milliseconds", "waited_milliseconds", "hidden")
            )
            shared = results[0][1]
            line += f"; {shared['reduced_bytes'] / 1e6:.1f} MB in {shared['buckets']} bucket(s), {flight:.1f} ms under way, {waited:.1f} of them behind backward, {100 * hidden:.0f} % hidden"
        print(line)


main()
