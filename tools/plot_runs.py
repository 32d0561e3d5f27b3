#!/usr/bin/env python3
"""Plots of runs for the documentation (needs matplotlib).

    plot_runs.py loss OUT.png NAME=RUN_FOLDER ...      loss and its parts over the steps of runs
    plot_runs.py latents OUT.png RUN_FOLDER ... [--linear RUN_FOLDER ...]
                                                       F-score of held-out meshes against latent floats; the linear code
                                                       is the best one of that size in all runs
"""
import csv
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, which colour-blind people tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"


def rows(run):
    with open(pathlib.Path(run) / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def summary(run):
    return json.loads((pathlib.Path(run) / "summary.json").read_text())


def loss(out, named):
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for item, colour in zip(named, (BLUE, ORANGE, GREEN)):
        name, run = item.split("=", 1)
        data = rows(run)
        steps = [row["step"] for row in data]
        first = data[0]["reconstruction"]
        axes.plot(steps, [row["reconstruction"] / first for row in data], color=colour, label=name)
    axes.set(yscale="log", xlabel="step", ylabel="reconstruction loss / that of step 1")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=130)


def latents(out, runs):
    at = runs.index("--linear") if "--linear" in runs else len(runs)
    networks, all_runs = runs[:at], runs[:at] + runs[at + 1 :]
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
    for axes, which in zip(panels, (1, 2)):
        score = lambda run, kind: summary(run)["held_out"]["mean"][kind][which]["f_score"]
        size = lambda run: summary(run)["latent"]["floats"]
        networks.sort(key=size)
        floats = [size(run) for run in networks]
        linear = [max(score(run, "linear") for run in all_runs if size(run) == n) for n in floats]
        axes.plot(floats, [score(run, "mesh") for run in networks], "o-", color=BLUE, label="network")
        axes.plot(floats, linear, "s--", color=ORANGE, label="linear code")
        axes.plot(floats, [score(run, "ceiling") for run in networks], ":", color=GREY, label="ceiling")
        threshold = summary(networks[0])["held_out"]["mean"]["mesh"][which]["threshold"]
        axes.set(xscale="log", xlabel="floats of the latent", ylim=(0, 1), title=f"F-score at {threshold:g}, held-out heads")
        axes.set_xticks(floats, [f"{value:,}" for value in floats])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    commands = {"loss": loss, "latents": latents}
    if len(sys.argv) < 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](sys.argv[2], sys.argv[3:])
