"""Every number of the text, as a macro: \\val{quick.binary-cap.mean} and the like. A name that has no number is an error of LaTeX."""

import json

from .common import PAPER
from .tables import NONE, number, power, slug

HEADER = r"""% Written by tools/paper.py build; do not edit.
\makeatletter
\newcommand{\setval}[2]{\expandafter\gdef\csname value@#1\endcsname{#2}}
\newcommand{\val}[1]{\ifcsname value@#1\endcsname\csname value@#1\endcsname\else\missing{#1}\fi}
\newcommand{\ifpart}[3]{\ifcsname part@#1\endcsname#2\else#3\fi}
\newcommand{\setpart}[1]{\expandafter\gdef\csname part@#1\endcsname{}}
\makeatother
"""
# What a missing number does: an error, or in a draft a mark.
STRICT = r"\newcommand{\missing}[1]{\PackageError{numbers}{no number called #1}{}}" + "\n"
DRAFT = r"\newcommand{\missing}[1]{\textbf{??}}" + "\n"


def of_cell(cell):
    """Mean over the seeds, and `-sd` where it says something."""
    found = {
        "mean": (cell.end("of_mean"), 3), "draw": (cell.end("of_draw"), 3), "shuffled": (cell.end("of_shuffled"), 3),
        "zero": (cell.end("of_zero"), 3), "empty": (cell.end("empty"), 2), "empty-drawn": (cell.end("empty_drawn"), 2),
        "score": (cell.end("score"), 3), "ceiling": (cell.end("ceiling"), 3), "highest": (cell.end("highest"), 3),
        "nats": (cell.last("rate"), 1), "nats-first": (cell.first("rate"), 1), "active": (cell.last("active"), 0),
        "explained-first": (cell.first("explained"), 3), "occupied-last": (cell.last("occupied"), 3),
        "cosine": (cell.last("gradient_cosine"), 2), "edge-first": (edge(cell, "first"), 3), "edge-last": (edge(cell, "last"), 3),
    }
    out = {}
    for key, (stat, digits) in found.items():
        if stat.there:
            out[key] = number(stat.mean, digits)
            out[f"{key}-sd"] = f"{stat.deviation:.{max(digits, 1)}f}"
            if key in ("mean", "draw"):
                out[f"{key}-error"] = f"{100 * (1 - stat.mean):.0f}"
    rates = [run["looks"]["rate"] for run in cell.runs if "rate" in run["looks"]]
    if rates:
        out["nats-highest"] = number(max(map(max, rates)), 1)
        out["rise"] = number(max(max(rate) / rate[0] for rate in rates), 2)
    out["diverged"] = str(sum(run["diverged"] is not None for run in cell.runs))
    out["parameters"] = number(cell.runs[0]["parameters"])
    out["pixels-at-edge"] = number(sum(cell.edge("first")[1][:3]), 3)
    out["data-occupied"] = number(cell.runs[0]["data_occupied"], 3)
    if cell.s["beta"] is not None:
        out["beta"] = power(cell.s["beta"])
    if cell.noise:
        out["noise"] = power(cell.noise)
    if cell.s["kl_warmup"]:
        share = min(1.0, cell.s["steps"] / cell.s["kl_warmup"])
        out["weight-end"], out["share-end"] = power(cell.s["beta"] * share), number(share, 2)
        out["warm-up"] = number(cell.s["kl_warmup"])
        if cell.noise:
            out["noise-end"] = power(cell.noise * share)
    if cell.predicted:
        p = cell.predicted
        out |= {
            "pred": number(cell.predicted_explained, 3), "pred-active": number(p["site"]["active"]),
            "pred-nats": number(p["site"]["rate"], 1), "pred-mesh-active": number(p["mesh"]["active"]),
            "critical": power(p["critical_beta"][0]), "critical-median": power(p["critical_beta"][1]),
        }
        if cell.noise:
            out["eigenvalue"] = number(cell.largest_eigenvalue, 2)
            out["eigenvalue-median"] = power(p["critical_beta"][1] * cell.noise / cell.s["beta"])
    return out


def edge(cell, when):
    """The share of the gradient within two pixels of the edge."""
    from .common import Stat

    return Stat(sum(run[f"edge_{when}"][:3]) for run in cell.runs)


WORKS, FAILS = 0.5, 0.05


def learned(cell):
    """Whether the prior of a Gaussian latent is."""
    return cell.gaussian and cell.s["prior"] != "standard"


def of_grid(grid):
    s = grid.cells[0].s
    binary = [c for c in grid.cells if c.plain and c.s["representation"] == "binary"]
    continuous = [c for c in grid.cells if c.plain and c.s["representation"] == "continuous"]
    counted = lambda cells, test: str(sum(test(c.end("of_mean").mean) for c in cells if c.end("of_mean").there))
    fixed = [c for c in binary if c.noise]
    gap = [abs(c.predicted_explained - c.end("of_draw").mean) for c in fixed]
    gap_mean = [abs(c.predicted_explained - c.end("of_mean").mean) for c in fixed]
    surfaces = [c.end("empty").mean for c in grid.cells if c.end("empty").there]
    steps = [int(run["looks"]["step"][1]) for run in grid.cells[0].runs]
    out = {
        "cells": str(grid.cells_expected), "runs": str(grid.runs), "heads": str(grid.heads), "planes": str(s["planes"]),
        "values": number(s["values"]), "floats": number(s["floats"]), "steps": number(s["steps"]), "batch": str(s["batch"]),
        "seeds": str(len(grid.cells[0].runs)), "between-looks": str(steps[0]),
        "binary": str(len(binary)), "binary-works": counted(binary, lambda x: x >= WORKS),
        "binary-fails": counted(binary, lambda x: x <= FAILS),
        "continuous": str(len(continuous)), "continuous-works": counted(continuous, lambda x: x >= WORKS),
        "most-empty": number(max(surfaces), 2), "diverged": str(sum(r["diverged"] is not None for c in grid.cells for r in c.runs)),
        "parameters": number(grid.cells[0].runs[0]["parameters"]),
    }
    others = [c for c in grid.cells if c.s["representation"] == "binary" and (c.s["latent"] not in ("gaussian", "deterministic") or learned(c))]
    out["others"] = ", ".join(rf"\code{{{c.name.removeprefix('binary-')}}} {number(c.end('of_mean').mean)}" for c in others) or NONE
    if gap:
        out |= {"gap-draw": number(max(gap), 2), "gap-mean": number(max(gap_mean), 2), "fixed": str(len(fixed))}
    for verdict in grid.verdicts:
        name = slug(verdict["claim"])
        out[f"verdict.{name}"] = verdict["outcome"]
        out[f"verdict.{name}.effect"] = number(verdict["effect"], 3)
    counts = [verdict["outcome"] for verdict in grid.verdicts]
    if counts:
        out |= {"claims": str(len(counts))} | {
            key: str(counts.count(outcome))
            for key, outcome in (("supported", "supported"), ("not-supported", "not supported"), ("undecided", "undecided"))
        }
    return out


def of_spectra(spectra):
    out = {"heads": str(spectra["heads"]), "beta": power(spectra["beta"])}
    for row in spectra["sizes"]:
        n = row["planes"]
        out |= {f"{n}.values": number(row["values"]), f"{n}.noise": power(row["noise"]), f"{n}.pixel": number(row["pixel_variance"], 2)}
        for part in ("mesh", "four_sites", "patch_32"):
            p, name = row[part], part.replace("_", "-")
            out |= {
                f"{n}.{name}.largest": number(p["largest"], 2), f"{n}.{name}.median": number(p["median"], 2),
                f"{n}.{name}.critical": power(p["critical_beta"][0]), f"{n}.{name}.critical-median": power(p["critical_beta"][1]),
                f"{n}.{name}.kept": number(p["explained"], 3), f"{n}.{name}.alive": number(p["alive"]),
                f"{n}.{name}.directions": number(p["directions"]),
            }
    first, last = spectra["sizes"][0], spectra["sizes"][-1]
    out["noise-ratio"] = number(last["noise"] / first["noise"])
    out["mesh-ratio"] = number(last["mesh"]["largest"] / first["mesh"]["largest"])
    out["critical-ratio"] = number(first["mesh"]["critical_beta"][0] / last["mesh"]["critical_beta"][0], 2)
    return out


def of_sets(content):
    out = {}
    for data, by_latent in content["sets"].items():
        for latent, entry in by_latent.items():
            base = f"{data}.{latent}"
            for which, name in (("train", "train"), ("held_out", "left-out")):
                for code, value in (entry[which] or {}).items():
                    out[f"{base}.{name}.{code}"] = number(value, 3)
            out |= {f"{base}.{key}": number(entry[key]) for key in ("floats", "steps", "parameters", "trained_on", "left_out", "planes")}
            out[f"{base}.nats"] = number(entry["kl"], 1)
            out[f"{base}.beta"] = power(entry["beta"])
            for prior, s in entry["samples"].items():
                out |= {
                    f"{base}.{prior}.count": str(s["count"]), f"{base}.{prior}.surface": str(s["with_surface"]),
                    f"{base}.{prior}.watertight": str(s["watertight"]), f"{base}.{prior}.ratio": number(s["ratio"], 2),
                    f"{base}.{prior}.components": number(s["components"], 1),
                }
    return out


def of_presets():
    """The paper preset on one scanned head, from the summaries that docs/performance.md cites."""
    out = {}
    for name in ("summary", "study_summary"):
        summary = json.loads((PAPER / f"{name}.json").read_text())
        key = "preset" if name == "summary" else "plain"
        for which in ("mesh", "linear", "ceiling"):
            at = next(s["f_score"] for s in summary[which]["scores"] if abs(s["threshold"] - 0.01) < 1e-6)
            out[f"{key}.{which}"] = number(at, 3)
        out[f"{key}.steps"], out[f"{key}.parameters"] = number(summary["steps"]), number(summary["parameters"])
        out[f"{key}.floats"] = number(summary["latent"]["floats"])
    return out


def macros(grids, spectra, set_data, draft):
    parts = {"one": of_presets()}
    for name, grid in grids.items():
        parts[name] = of_grid(grid)
        for cell in grid.cells:
            parts[f"{name}.{cell.name}"] = of_cell(cell)
    if spectra:
        parts["size"] = of_spectra(spectra)
    if set_data:
        parts["sets"] = of_sets(set_data)
    lines = [HEADER, DRAFT if draft else STRICT]
    lines += [rf"\setval{{{part}.{key}}}{{{value}}}" for part, found in parts.items() for key, value in found.items()]
    there = {name for name, grid in grids.items() if grid.complete or draft}
    lines += [rf"\setpart{{{name}}}" for name in sorted(there | ({"sets"} if set_data else set()))]
    return "\n".join(lines) + "\n"
