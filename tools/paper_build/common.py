"""What collecting and building share: where data lies, and how its numbers are read."""

import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAPER = ROOT / "docs" / "paper"
DATA = PAPER / "data"
MOST_BYTES = 300_000
GRIDS = ("quick", "standard", "study")
# Runs that every cell has where a grid is whole; the study's own size is affordable once.
SEEDS = {"quick": 3, "standard": 3, "study": 1}
# Cells whose decoded planes are shown, in this order, where a grid has them.
SHEET = (
    "binary-deterministic",
    "binary-mse-mean-1e-6",
    "binary-mse-mean-1e-4",
    "binary-mse-mean-1e-3",
    "binary-bernoulli-sum-1",
    "binary-warm-up",
    "binary-free-bits",
    "binary-cap",
    "binary-categorical",
    "binary-fsq",
    "binary-mixture-",
    "binary-vamp-",
    "continuous-deterministic",
    "continuous-mse-mean-1e-6",
    "study",
)


def shown(name):
    """Whether a cell is on the sheet; entries that end in a hyphen stand for all that begin so."""
    return any(name == entry or (entry.endswith("-") and name.startswith(entry)) for entry in SHEET) or name.startswith("study")


def write(name, content):
    """A file of docs/paper/data, small enough to commit."""
    text = json.dumps(content, separators=(",", ":"))
    # A line a cell: a change of one run is a change of one line.
    text = text.replace('{"name":', '\n{"name":').replace('],"verdicts"', '],\n"verdicts"') + "\n"
    if len(text) > MOST_BYTES:
        sys.exit(f"{name}: {len(text)} bytes, at most {MOST_BYTES} are kept")
    DATA.mkdir(exist_ok=True)
    (DATA / name).write_text(text)
    print(f"docs/paper/data/{name}: {len(text):,} bytes")


def read(name):
    """The content of a file of docs/paper/data, or None without it."""
    path = DATA / name
    return json.loads(path.read_text()) if path.exists() else None


def rounded(value, digits=5):
    """To significant digits, through lists and dictionaries: what is kept is what is shown, and a little more."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, list):
        return [rounded(v, digits) for v in value]
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    return value


class Stat:
    """Mean and standard deviation over seeds; `None` values make it empty."""

    def __init__(self, values):
        values = list(values)
        self.there = bool(values) and all(v is not None for v in values)
        self.count = len(values)
        self.mean = statistics.mean(values) if self.there else None
        self.deviation = statistics.stdev(values) if self.there and len(values) > 1 else 0.0


class Cell:
    """One combination of settings, with its runs."""

    def __init__(self, content):
        self.__dict__.update(content)
        self.s = content["settings"]

    def end(self, key):
        return Stat(run["end"].get(key) if run["end"] else None for run in self.runs)

    def last(self, key):
        return Stat(run["looks"][key][-1] if run["looks"].get(key) else None for run in self.runs)

    def first(self, key):
        return Stat(run["looks"][key][0] if run["looks"].get(key) else None for run in self.runs)

    def edge(self, when):
        """Shares of the gradient by distance, and of the pixels, mean over the seeds."""
        mean = lambda key: [statistics.mean(column) for column in zip(*(run[key] for run in self.runs))]
        return mean(f"edge_{when}"), mean("edge_pixels")

    @property
    def gaussian(self):
        return self.s["latent"] == "gaussian"

    @property
    def plain(self):
        """A Gaussian latent with a standard prior and no schedule: one of the sweep."""
        return self.gaussian and self.s["prior"] == "standard" and self.role in ("sweep", "study") and not self.s["blur"]

    @property
    def noise(self):
        """The variance of the decoder that weight and reductions come to; None for other likelihoods than MSE."""
        if not self.gaussian or self.s["likelihood"] != "mse":
            return None
        r = 1.0 if self.s["reduction"] == "sum" else 1.0 / self.s["values"]
        k = 1.0 if self.s["kl_reduction"] == "sum" else 1.0 / self.s["floats"]
        return self.s["beta"] * k / r / 2

    @property
    def predicted_explained(self):
        p = self.predicted
        return 1 - p["site"]["distortion"] / p["total"] if p else None

    @property
    def largest_eigenvalue(self):
        """Of a site's patch, from the critical beta of the strongest direction and the decoder's variance a beta."""
        return self.predicted["critical_beta"][0] * self.noise / self.s["beta"] if self.predicted and self.noise else None


class Grid:
    """The data of one diagnosis."""

    def __init__(self, name, content):
        self.name = name
        self.__dict__.update({k: v for k, v in content.items() if k != "cells"})
        self.cells = [Cell(cell) for cell in content["cells"]]
        self.by_name = {cell.name: cell for cell in self.cells}

    def __getitem__(self, name):
        return self.by_name[name]

    def get(self, name):
        return self.by_name.get(name)


def grids():
    """What is there, by name."""
    found = {name: read(f"{name}.json") for name in GRIDS}
    return {name: Grid(name, content) for name, content in found.items() if content}
