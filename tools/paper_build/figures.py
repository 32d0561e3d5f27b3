"""Figures of the write-up, from docs/paper/data: PDF, readable in print, with a palette that colour-blind readers tell apart."""

import math

import matplotlib

matplotlib.use("pdf")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from .common import DATA, SHEET, read

# Okabe and Ito's palette.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F",
)
WIDE = 6.5
plt.rcParams.update(
    {
        "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8, "xtick.labelsize": 8,
        "ytick.labelsize": 8, "font.family": "serif", "font.serif": ["STIXGeneral"], "mathtext.fontset": "stix",
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
        "legend.frameon": False, "figure.constrained_layout.use": True, "pdf.fonttype": 42, "savefig.bbox": None,
    }
)
NAMES = {"quick": "planes of 32", "standard": "planes of 64", "study": "planes of 512"}


def save(figure, out, name):
    figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    plt.close(figure)


def band(ax, cell, column, colour, label, style="-", change=lambda y: y, against="step"):
    """Mean over the seeds and the range of them."""
    runs = [run["looks"] for run in cell.runs if column in run["looks"]]
    length = min(len(run["step"]) for run in runs)
    y = np.array([[change(v) for v in run[column][:length]] for run in runs])
    x = np.array(runs[0][against][:length])
    ax.plot(x, y.mean(0), style, color=colour, label=label)
    ax.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.18, linewidth=0)


COURSE = (
    ("binary-mse-mean-1e-6", BLUE, "-", r"$\beta=10^{-6}$ (source study)"),
    ("binary-mse-mean-1e-4", SKY, "--", r"$\beta=10^{-4}$"),
    ("binary-mse-mean-1e-3", RED, "-", r"$\beta=10^{-3}$"),
    ("binary-warm-up", ORANGE, "-.", r"$\beta=10^{-3}$, warm-up"),
    ("binary-cap", GREEN, ":", r"$\beta=10^{-3}$, capped"),
    ("binary-bernoulli-sum-1", PURPLE, "--", r"Bernoulli, $\beta=1$"),
)


def course(grid, out):
    """KL and reconstruction over the steps, working and failing cells."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.5))
    for name, colour, style, label in COURSE:
        if cell := grid.get(name):
            band(left, cell, "rate", colour, label, style)
            band(right, cell, "explained", colour, label, style, change=lambda x: max(1 - x, 1e-6))
    left.set(yscale="log", xlabel="step", ylabel="KL, nats per head")
    right.set(yscale="log", xlabel="step", ylabel="error / that of the mean")
    right.axhline(1, color=GREY, linewidth=0.7, zorder=0)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, out, f"course-{grid.name}")


STUDY = (
    ("study", RED, "-", "binary, Gaussian latent"),
    ("study-whole-weight", ORANGE, ":", "the same without warm-up"),
    ("study-continuous", BLUE, "--", "continuous, Gaussian latent"),
    ("study-deterministic", GREEN, "-.", "continuous, deterministic"),
)


def study_course(grid, out):
    figure, axes = plt.subplots(1, 3, figsize=(WIDE, 2.4))
    for name, colour, style, label in STUDY:
        cell = grid.get(name)
        if not cell:
            continue
        if cell.gaussian:
            band(axes[0], cell, "rate", colour, label, style, against="epoch")
        band(axes[1], cell, "explained", colour, label, style, change=lambda x: 1 - x, against="epoch")
        band(axes[2], cell, "occupied", colour, label, style, against="epoch")
        axes[2].axhline(cell.runs[0]["data_occupied"], color=GREY, linewidth=0.7, zorder=0)
    for ax in axes:
        ax.axvline(50, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
        ax.set(xlabel="epoch")
    axes[0].set(yscale="log", ylabel="KL, nats per head")
    axes[1].set(yscale="log", ylabel="error / that of the mean")
    axes[1].axhline(1, color=GREY, linewidth=0.7, zorder=0)
    axes[2].set(ylabel="occupied share of pixels", ylim=(-0.02, None))
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, out, "course-study")


def kind(cell):
    """Colour, marker and label of a cell in the plots over weights."""
    colour = {"binary": BLUE, "continuous": ORANGE}[cell.s["representation"]]
    if cell.s["blur"]:
        colour = GREEN
    marker = {"mse": {"mean": "o", "sum": "s"}[cell.s["reduction"]], "sigma": "D", "bernoulli": "^"}[cell.s["likelihood"]]
    return colour, marker


def swept(grid):
    return [cell for cell in grid.cells if cell.gaussian and (cell.plain or cell.s["blur"])]


def rate_distortion(grids, out):
    """Distortion of draws from the posterior against the KL at the end, with the linear theory's line."""
    figure, axes = plt.subplots(1, len(grids), figsize=(WIDE, 2.8), sharey=True, squeeze=False)
    for ax, grid in zip(axes[0], grids):
        for cell in swept(grid):
            colour, marker = kind(cell)
            rate, draw = cell.last("rate"), cell.end("of_draw")
            fill = colour if cell.s["likelihood"] == "mse" else "white"
            ax.errorbar(rate.mean, 1 - draw.mean, xerr=rate.deviation, yerr=draw.deviation, color=colour, marker=marker,
                        markersize=4, markerfacecolor=fill, linestyle="none", elinewidth=0.6)
        for representation, colour in (("binary", BLUE), ("continuous", ORANGE)):
            line = sorted(
                (cell.predicted["site"]["rate"], 1 - cell.predicted_explained)
                for cell in swept(grid)
                if cell.s["representation"] == representation and cell.noise and not cell.s["blur"]
                and cell.predicted["site"]["rate"] > 0.3
            )
            ax.plot(*zip(*line), color=colour, linewidth=0.8, linestyle="--", zorder=0)
        ax.axhline(1, color=GREY, linewidth=0.7, zorder=0)
        ax.set(xscale="log", yscale="log", xlabel="rate: KL divergence at the end, nats per head", title=NAMES[grid.name])
    axes[0][0].set_ylabel("error of draws / of the mean")
    handle = lambda colour, marker, label, face: Line2D([], [], color=colour, marker=marker, linestyle="none", label=label,
                                                        markersize=4, markerfacecolor=face)
    handles = [
        handle(BLUE, "o", "binary", BLUE), handle(ORANGE, "o", "continuous", ORANGE), handle(GREEN, "o", "blurred", GREEN),
        handle(BLACK, "o", "squared error, mean", BLACK), handle(BLACK, "s", "squared error, sum", BLACK),
        handle(BLACK, "D", "fitted deviation", "white"), handle(BLACK, "^", "Bernoulli", "white"),
        Line2D([], [], color=BLACK, linestyle="--", linewidth=0.8, label="linear theory"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    save(figure, out, "rate-distortion")


def threshold(grids, out):
    """Active units, and what draws explain, against the variance of the decoder: predicted and found."""
    figure, axes = plt.subplots(2, len(grids), figsize=(WIDE, 4.0), sharex="col", squeeze=False)
    for column, grid in zip(axes.T, grids):
        for representation, colour in (("binary", BLUE), ("continuous", ORANGE)):
            cells = [c for c in swept(grid) if c.noise and c.s["representation"] == representation and not c.s["blur"]]
            cells.sort(key=lambda cell: cell.noise)
            x = [cell.noise for cell in cells]
            for ax, predicted in zip(column, (lambda c: c.predicted["site"]["active"], lambda c: c.predicted_explained)):
                ax.plot(x, [predicted(c) for c in cells], "--", color=colour, linewidth=0.9, zorder=1)
            for cell in cells:
                face = colour if cell.s["reduction"] == "mean" else "white"
                for ax, found in zip(column, (cell.last("active"), cell.end("of_draw"))):
                    ax.errorbar(cell.noise, found.mean, yerr=found.deviation, color=colour, marker="o", markersize=4,
                                markerfacecolor=face, linestyle="none", elinewidth=0.6)
            for ax in column:
                ax.axvline(cells[0].largest_eigenvalue, color=colour, linewidth=0.8, linestyle=":")
        column[0].set(yscale="symlog", ylim=(-0.3, 9000), title=NAMES[grid.name])
        column[1].set(xscale="log", xlabel=r"variance of the decoder, $s$", ylim=(-0.75, 1.05))
        column[1].axhline(0, color=GREY, linewidth=0.7, zorder=0)
    axes[0][0].set_ylabel("active units")
    axes[1][0].set_ylabel("variance explained by draws")
    handles = [
        Line2D([], [], color=BLUE, marker="o", linestyle="none", markersize=4, label="binary"),
        Line2D([], [], color=ORANGE, marker="o", linestyle="none", markersize=4, label="continuous"),
        Line2D([], [], color=BLACK, marker="o", linestyle="none", markersize=4, label="mean"),
        Line2D([], [], color=BLACK, marker="o", linestyle="none", markersize=4, markerfacecolor="white", label="sum"),
        Line2D([], [], color=BLACK, linestyle="--", linewidth=0.9, label="predicted"),
        Line2D([], [], color=BLACK, linestyle=":", linewidth=0.8, label="largest variance of a site's patch"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, columnspacing=1.2, handletextpad=0.4)
    save(figure, out, "threshold")


def sizes(spectra, out):
    """The beta at which directions die, by size of the planes, beside the decoder's variance of a fixed beta."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 2.4))
    x = [row["planes"] for row in spectra["sizes"]]
    lines = (
        ("mesh", 0, BLACK, "o-", "whole heads, strongest"),
        ("four_sites", 0, BLUE, "s-", r"$4\times4$ sites, strongest"),
        ("four_sites", 1, BLUE, "s:", r"$4\times4$ sites, median"),
        ("patch_32", 0, ORANGE, "^-", "patches of 32 pixels, strongest"),
        ("patch_32", 1, ORANGE, "^:", "patches of 32 pixels, median"),
    )
    for key, which, colour, style, label in lines:
        y = [row[key]["critical_beta"][which] for row in spectra["sizes"]]
        right.plot(x, y, style, color=colour, label=label, markersize=3.5)
    right.axhline(spectra["beta"], color=RED, linewidth=0.9, linestyle="--")
    right.annotate("the source study's weight", (x[0], spectra["beta"]), va="bottom", fontsize=7.5, color=RED)
    left.plot(x, [row["noise"] for row in spectra["sizes"]], "D--", color=RED, markersize=3.5, label=r"decoder, $\beta D/2$")
    for key, which, colour, style, label in lines[:3]:
        name = "median" if which else "largest"
        left.plot(x, [row[key][name] for row in spectra["sizes"]], style, color=colour, markersize=3.5)
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="pixels along an edge of a plane")
        ax.set_xticks(x, [str(size) for size in x])
        ax.minorticks_off()
    left.set(ylabel="variance")
    right.set(ylabel=r"critical $\beta$")
    handles = right.get_legend_handles_labels()[0] + left.get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    save(figure, out, "sizes")


def edges(grids, out):
    """Share of the reconstruction's gradient by distance from the silhouette's edge, over the share of the pixels."""
    figure, axes = plt.subplots(1, len(grids), figsize=(WIDE, 2.3), sharey=True, squeeze=False)
    lines = (
        ("binary-random-start", "first", RED, "o-", "binary, random start, before training"),
        ("binary-random-start", "last", RED, "o:", "binary, random start, at the end"),
        ("binary-deterministic", "last", BLUE, "s--", "binary, deterministic, at the end"),
        ("continuous-deterministic", "first", ORANGE, "^-", "continuous, before training"),
        ("continuous-deterministic", "last", ORANGE, "^:", "continuous, at the end"),
    )
    for ax, grid in zip(axes[0], grids):
        for name, when, colour, style, label in lines:
            if cell := grid.get(name):
                magnitude, pixels = cell.edge(when)
                density = [m / p if p else math.nan for m, p in zip(magnitude, pixels)]
                ax.plot(range(len(density)), density, style, color=colour, label=label, markersize=3.5)
        ax.axhline(1, color=GREY, linewidth=0.7, zorder=0)
        ax.set(xlabel="distance from the edge, pixels", title=NAMES[grid.name])
        ax.set_xticks(range(9), [*map(str, range(8)), r"$\geq$8"])
    axes[0][0].set_ylabel("gradient per pixel / mean")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, out, "edges")


def occupied(grids, out):
    """Share of the pixels above a threshold, of the first head."""
    figure, axes = plt.subplots(1, len(grids), figsize=(WIDE, 2.3), sharey=True, squeeze=False)
    lines = (
        ("binary-mse-mean-1e-6", BLUE, "-"), ("binary-mse-mean-1e-4", SKY, "--"), ("binary-mse-mean-1e-3", RED, "-"),
        ("binary-warm-up", ORANGE, "-."), ("binary-bernoulli-sum-1", PURPLE, "--"), ("blurred-mse-mean-1e-6", GREEN, ":"),
    )
    labels = {name: label for name, _, _, label in COURSE} | {"blurred-mse-mean-1e-6": r"blurred, $\beta=10^{-6}$"}
    levels = [0.1 * k for k in range(1, 10)]
    for ax, grid in zip(axes[0], grids):
        for name, colour, style in lines:
            if cell := grid.get(name):
                mean = np.mean([run["end"]["occupied"] for run in cell.runs], 0)
                ax.plot(levels, mean, style, color=colour, label=labels[name])
        ax.set(xlabel="threshold", title=NAMES[grid.name], ylim=(0, None))
    axes[0][0].set_ylabel("occupied share, first head")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, out, "occupied")


def pretty(name):
    """A cell's name for people."""
    words = {
        "binary-deterministic": "deterministic", "binary-warm-up": r"$10^{-3}$, warm-up",
        "binary-free-bits": r"$10^{-3}$, free bits", "binary-cap": r"$10^{-3}$, capped",
        "binary-categorical": "categorical", "binary-fsq": "FSQ", "continuous-deterministic": "continuous, determ.",
        "continuous-mse-mean-1e-6": r"continuous, $10^{-6}$", "binary-bernoulli-sum-1": r"Bernoulli, $\beta=1$",
        "study": "binary, Gaussian", "study-whole-weight": "no warm-up", "study-continuous": "continuous, Gaussian",
        "study-deterministic": "continuous, determ.",
    }
    if name in words:
        return words[name]
    if name.startswith("binary-mse-mean-1e-"):
        return rf"mean sq. error, $10^{{-{name[-1]}}}$"
    for prior in ("mixture", "vamp"):
        if name.startswith(f"binary-{prior}-"):
            return f"{prior}, {name.split(prior + '-')[1]}"
    return name


def blocks(name):
    """What the sheet shows: pairs of a label and the place (row, first column) of three views decoded and three drawn."""
    rows = read(f"{name}-planes.json")["rows"]
    order = lambda cell: next((k for k, e in enumerate(SHEET) if cell == e or e.endswith("-") and cell.startswith(e)), len(SHEET))
    found, before = [], None
    for at in sorted(range(len(rows)), key=lambda at: (order(rows[at]), rows[at])):
        representation = "continuous" if "continuous" in rows[at] or rows[at] == "study-deterministic" else "binary"
        if representation != before:
            found.append((f"input, {representation}", at, (0, 1, 2)))
        found.append((pretty(rows[at]), at, (3, 4, 5, 6, 7, 8)))
        before = representation
    return found


def sheet(name, out):
    """Three views of the input, then of what cells decode and draw from their prior: two blocks beside each other."""
    from PIL import Image

    tile, shown = read(f"{name}-planes.json")["tile"], blocks(name)
    picture = np.asarray(Image.open(DATA / f"{name}-planes.png").convert("L"))
    lines, edge, gap, label, head = math.ceil(len(shown) / 2), 0.355, 0.02, 1.02, 0.2
    height = head + lines * (edge + gap)
    figure = plt.figure(figsize=(WIDE, height), layout="none")
    half = WIDE / 2
    for at, (text, row, columns) in enumerate(shown):
        left, top = (at // lines) * half + label, head + (at % lines) * (edge + gap)
        figure.text((left - 0.06) / WIDE, 1 - (top + edge / 2) / height, text, ha="right", va="center", fontsize=7.5)
        for k, column in enumerate(columns):
            view = picture[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            if column >= 6 and view.min() == 255:
                continue
            x = left + k * edge + (0.06 if k >= 3 else 0)
            box = (x / WIDE, 1 - (top + edge) / height, (edge - gap) / WIDE, edge / height * (edge - gap) / edge)
            ax = figure.add_axes(box)
            ax.imshow(view, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            for side in ("top", "right", "left", "bottom"):
                ax.spines[side].set(visible=True, linewidth=0.3, color=GREY)
    for side in (0, 1):
        for k, title in ((1.5, "decoded"), (4.6, "drawn from the prior")):
            figure.text((side * half + label + k * edge) / WIDE, 1 - 0.1 / height, title, ha="center", va="center", fontsize=8)
    save(figure, out, f"planes-{name}")


def all_figures(grids, spectra, out):
    """What the data that is there allows; names of the files."""
    small = [grids[name] for name in ("quick", "standard") if name in grids]
    both = [g for g in small if all(g.get(n) for n in ("binary-random-start", "binary-mse-mean-1e-3", "continuous-deterministic"))]
    for grid in both:
        course(grid, out)
    if both:
        rate_distortion(both, out)
        threshold(both, out)
        edges(both, out)
        occupied(both, out)
    if spectra:
        sizes(spectra, out)
    if "study" in grids:
        study_course(grids["study"], out)
    for name in grids:
        if (DATA / f"{name}-planes.png").exists():
            sheet(name, out)
