#!/usr/bin/env python3
"""Trains settings beside one another, settings x heads x seeds, and prints what they reach and how many steps that takes.

    python3 tools/ablation.py OUT [HEAD]... [--grid tools/ablation.toml] [--only NAME]... [--seeds 3] [--threads 1]

Heads are mesh files; `built-in` is the sample head of seed 0, whatever the seed of the run. The grid says what is trained:

    preset = "quick"
    steps = [60, 125]                      # of every setting that names none of its own
    [config.training]                      # what a configuration file may hold, for all settings
    sdf_weight = 0.1
    [settings.cosine]                      # the first one is the reference
    steps = [60, 125, 250]
    [settings.plain]
    training.schedule = "constant"         # what this one changes

A run is a folder OUT/SETTING/STEPS/HEAD-SEED with its config.toml, metrics.csv and summary.json; the rest, some 30 MB, is
deleted once it is whole. What is there already is not trained again, so that a stopped ablation goes on where it was: a
setting that changes its meaning needs a new name or a new OUT. Scores do not depend on time or threads, and an ablation may
run beside other work.

The table has mean and standard deviation over heads and seeds of the network's scores relative to the ceiling's of the same
head. "Steps to the reference" is where the means of all three come to those of the reference's longest runs less
TOLERANCE, on lines between the numbers of steps tried. Needs Python 3.11 and a built program (cargo build --release).
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCORES = ("F at 0.005", "F at 0.01", "normals")
# Mean scores of two sets of nine runs that differ in their seeds alone lie about that far apart.
TOLERANCE = 0.001
KEPT = ("config.toml", "metrics.csv", "summary.json")


def toml(table, prefix=""):
    """A nested table of numbers, strings and lists as TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    text = f"[{prefix}]\n" if prefix and plain else ""
    text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in plain.items())
    nested = (item for item in table.items() if isinstance(item[1], dict))
    return text + "".join(toml(value, f"{prefix}.{key}" if prefix else key) for key, value in nested)


def merged(below, above):
    """Nested tables, `above` first."""
    both = {key: merged(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(below[key], dict)}
    return below | above | both


def head_file(options, head):
    """The file of a head; the built-in one is made once, so that all seeds train on the same."""
    if head != "built-in":
        return head
    path = options.out / "built-in.ply"
    if not path.exists():
        subprocess.run([options.hexcuda, "head", "--seed", "0", "-o", path], check=True)
    return path


def train(options, preset, setting, steps, head, seed):
    """The summary of a run, from its folder if it is there."""
    folder = options.out / setting["name"] / str(steps) / f"{Path(head).stem}-{seed}"
    if not (folder / "summary.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        config = folder.parent / f"{folder.name}.toml"
        config.write_text(toml(setting["config"]))
        print(f"{setting['name']}, {steps} steps, {Path(head).stem}, seed {seed}", file=sys.stderr, flush=True)
        command = [options.hexcuda, "train", head_file(options, head), "--preset", preset, "--config", config]
        command += ["--steps", steps, "--seed", seed, "--out", folder, "--quiet", "--device", "cpu"]
        environment = os.environ | {"RAYON_NUM_THREADS": str(options.threads)}
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
        config.unlink()
        if done.returncode:
            # A loss that is not finite is a result too; anything else is not.
            if not re.match(r"step \d+: ", done.stderr.splitlines()[-1] if done.stderr else ""):
                sys.exit(done.stderr)
            folder.mkdir(exist_ok=True)
            (folder / "summary.json").write_text('{"diverged": true}')
        for path in folder.iterdir():
            if path.name not in KEPT:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return json.loads((folder / "summary.json").read_text())


def relative(summary):
    """F at 0.005, F at 0.01 and normal consistency over the ceiling's; 0 for what diverged or has no surface."""
    if "diverged" in summary:
        return (0.0, 0.0, 0.0)

    def scores(which):
        found = {round(score["threshold"], 4): score["f_score"] for score in summary[which]["scores"]}
        return (found[0.005], found[0.01], summary[which]["normal_consistency"])

    return tuple((ours or 0.0) / ceiling for ours, ceiling in zip(scores("mesh"), scores("ceiling")))


def steps_to(curve, wanted):
    """Where straight lines through (steps, score) first come to what is wanted."""
    before = None
    for steps, score in sorted(curve.items()):
        if score >= wanted:
            if before is None:
                return f"<= {steps}"
            share = (wanted - before[1]) / (score - before[1])
            return str(round(before[0] + share * (steps - before[0])))
        before = (steps, score)
    return f"> {before[0]}"


def slowest(answers):
    """The answer of `steps_to` with the most steps."""
    return max(answers, key=lambda text: (text.startswith(">"), int(text.split()[-1]), not text.startswith("<")))


def table(results):
    """Markdown: a row for each setting and number of steps, steps to the reference in the first row of a setting."""
    reference = results[next(iter(results))]
    mean = lambda runs, k: statistics.mean(run[k] for run in runs)
    wanted = [mean(reference[max(reference)], k) - TOLERANCE for k in range(len(SCORES))]
    lines = [f"| setting | steps | {' | '.join(SCORES)} | steps to the reference |", "|---|---|---|---|---|---|"]
    for name, by_steps in results.items():
        curves = [{steps: mean(runs, k) for steps, runs in by_steps.items()} for k in range(len(SCORES))]
        needed = slowest([steps_to(curve, least) for curve, least in zip(curves, wanted)])
        for steps, runs in sorted(by_steps.items()):
            cells = []
            for k in range(len(SCORES)):
                values = [run[k] for run in runs]
                cells.append(f"{statistics.mean(values):.4f} ± {statistics.stdev(values) if values[1:] else 0:.4f}")
            lines.append(f"| {name} | {steps} | {' | '.join(cells)} | {needed} |")
            name, needed = "", ""
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("heads", nargs="*", default=["built-in"], help="mesh files, or built-in")
    parser.add_argument("--grid", type=Path, default=ROOT / "tools" / "ablation.toml")
    parser.add_argument("--only", action="append", help="this setting and the reference alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hexcuda", default=ROOT / "target" / "release" / "hexcuda")
    return parser.parse_args()


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    grid = tomllib.loads(options.grid.read_text())
    names = list(grid["settings"])
    chosen = names if not options.only else names[:1] + [name for name in names[1:] if name in options.only]
    results = {}
    for name in chosen:
        changes = dict(grid["settings"][name])
        wanted = changes.pop("steps", grid.get("steps"))
        setting = {"name": name, "config": merged(grid.get("config", {}), changes)}
        for steps in wanted:
            pairs = [(head, seed) for head in options.heads for seed in range(options.seeds)]
            summaries = [train(options, grid["preset"], setting, steps, *pair) for pair in pairs]
            results.setdefault(name, {})[steps] = [relative(summary) for summary in summaries]
    print(table(results))


if __name__ == "__main__":
    main()
