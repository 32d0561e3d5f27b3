#!/usr/bin/env python3
"""The predicted training step on an RTX 3060: every launch with its operations, bytes, bank conflicts and the time that
the card's published peak rates allow. A prediction: nothing here was timed on a card.

    cargo build --release -p hexcuda -p cuda-emulator
    pip install nvidia-cuda-nvcc-cu12==12.4.131     # ptxas
    python3 tools/predict_step.py [--hexcuda PATH] [--ptxas PATH] [-o docs/kernels.md [--check]]

Runs one step (`hexcuda bench --step`) at each precision on the software driver, which executes a sample of the blocks of
each launch and counts. --check: exits with 1 where the document says something else. What the figures mean and leave
out stands in docs/kernels.md, the rates in card_model.py."""

import argparse
import collections
import pathlib
import sys

import roofline
from card_model import Prediction, peak
from kernel_report import KERNELS, ROOT, assembled, find_ptxas
from launches import recorded

PRECISIONS = ("tf32", "bf16", "fp16", "fp32")
DEFAULT = "tf32"
BEGIN, END = "<!-- step -->", "<!-- end of step -->"
# What counts as short: launches whose time is that of starting them.
SHORT = 5e-6
PARTS = {
    "forward": "convolutions, forward",
    "backward_dx": "convolutions, gradients of images",
    "backward_dw": "convolutions, gradients of weights",
    "conv": "convolutions, biases and sums of parts",
    "group_norm": "group normalisation",
    "mse": "losses",
    "field_loss": "losses",
    "silhouette_loss": "losses",
    "bce": "losses",
    "optimal_sigma": "losses",
    "weighted_sum": "losses",
    "kl_term": "losses",
    "adam": "Adam",
    "cache": "plane cache",
    "": "other element-wise ops",
}


def part(launch):
    """Which part of the step a launch belongs to."""
    if product := launch.product():
        return PARTS[product[1]]
    return next(name for prefix, name in PARTS.items() if launch.kernel.startswith(prefix))


def predictions(precision, arguments, resources):
    """The launches of a step with their times, those first that take the most."""
    found = recorded(arguments.hexcuda, arguments.preset, precision, arguments.blocks)
    rows = [Prediction(launch, *resources[launch.kernel], precision) for launch in found]
    return sorted(rows, key=lambda row: (-row.best() * row.launch.count, row.launch.key()))


def figure(value):
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def span(best, worst, form=figure):
    """A range, or one figure where its ends look the same."""
    ends = [form(best), form(worst)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]}–{ends[1]}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def totals(rows):
    """Seconds at best and at worst, and launches, by part and in all."""
    sums = collections.defaultdict(lambda: [0.0, 0.0, 0])
    for row in rows:
        for name in (part(row.launch), "in all"):
            for place, value in enumerate((row.best(), row.worst(), 1)):
                sums[name][place] += value * row.launch.count
    return sums


def summary(steps):
    """Milliseconds by part and precision."""
    sums = {precision: totals(rows) for precision, rows in steps.items()}
    names = [*dict.fromkeys(PARTS.values()), "in all"]
    rows = []
    for name in names:
        times = [span(1e3 * sums[p][name][0], 1e3 * sums[p][name][1]) for p in steps]
        rows.append([name, str(sums[DEFAULT][name][2]), *times])
    ends = [sums[p]["in all"][:2] for p in steps]
    rows.append(["steps a second", "", *(span(1 / worst, 1 / best) for best, worst in ends)])
    head = ["ms a step", f"launches ({DEFAULT})", *steps]
    short = sum(row.launch.count for row in steps[DEFAULT] if row.worst() < SHORT)
    return table(head, rows) + (
        f"\nA launch costs a card some microseconds to start and to drain, which the table leaves out; {short} of the "
        f"{DEFAULT} launches\nare predicted below {1e6 * SHORT:.0f} µs, so that this is most of what they take.\n")


def most(rows):
    """The launches that take the most."""
    whole = totals(rows)["in all"][0]
    lines = [[f"`{row.launch.kernel}`", row.launch.shape(), str(row.launch.count),
              f"{row.best() * row.launch.count / whole:.0%}",
              span(row.worst(), row.best(), lambda t: f"{row.reach(t):.0%}"), row.bound()] for row in rows[:5]]
    return table(["kernel", "shape", "launches", "of the step", "of peak", "bound"], lines)


def details(rows, convolutions):
    """Every launch: of convolutions with the share of peak, of others without."""
    lines = []
    for row in rows:
        launch = row.launch
        if bool(launch.product()) != convolutions:
            continue
        line = [f"`{launch.kernel}`", launch.shape() or "scalars", str(launch.count),
                figure(launch.operations() / (1e9 if convolutions else 1e6)),
                figure(row.minimal / 1e6), figure(row.counted / 1e6), f"{row.conflicts():.0%}",
                f"{launch.blocks:,}", figure(row.waves), f"{row.balance:.0%}",
                span(1e6 * row.best(), 1e6 * row.worst())]
        if convolutions:
            line.append(span(row.worst(), row.best(), lambda t: f"{row.reach(t):.0%}"))
        lines.append([*line, row.bound()])
    head = ["kernel", "shape", "launches", "GFLOP" if convolutions else "M operations", "minimal MB", "counted MB",
            "conflicts", "blocks", "waves", "balance", "µs", *(["of peak"] if convolutions else []), "bound"]
    return table(head, lines)


def document(steps, arguments):
    """What stands between the marks."""
    rows = steps[DEFAULT]
    meshes = next(r.launch for r in rows if r.launch.kernel.startswith("field_loss_forward")).names()["B"]
    return f"""
Preset `{arguments.preset}`, {meshes} meshes a step; predicted, in milliseconds, from every operand passing the memory once to
the L2 cache saving nothing.

{summary(steps)}
The launches that take the most ({DEFAULT}, at best):

{most(rows)}
![The launches under the card's roof](step-roofline.svg)

### Convolutions, {DEFAULT}

Peak: {peak(DEFAULT) / 1e12:.1f} TFLOP/s.

{details(rows, True)}
### All other launches, {DEFAULT}

{details(rows, False)}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hexcuda", default=str(ROOT / "target" / "release" / "hexcuda"))
    parser.add_argument("--ptxas")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--blocks", type=int, default=8, help="of a launch that are executed")
    parser.add_argument("-o", "--out", help="the document to write into; none: print")
    parser.add_argument("--check", action="store_true", help="compare with the document, write nothing")
    arguments = parser.parse_args()
    ptxas, resources = find_ptxas(arguments.ptxas), {}
    for path in sorted((KERNELS / "ptx").glob("*.ptx")):
        for name, (registers, _, shared) in assembled(ptxas, path).items():
            resources[name] = (registers, shared)
    steps = {precision: predictions(precision, arguments, resources) for precision in PRECISIONS}
    text = document(steps, arguments)
    if not arguments.out:
        print(text)
        return
    out = pathlib.Path(arguments.out)
    whole = out.read_text()
    before, rest = whole.split(BEGIN)
    files = {out: f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}",
             out.with_name("step-roofline.svg"): roofline.picture([(part(row.launch), row) for row in steps[DEFAULT]])}
    for path, expected in files.items():
        if not arguments.check:
            path.write_text(expected)
        elif not path.exists() or path.read_text() != expected:
            sys.exit(f"{path} is not what the kernels make now: python3 tools/predict_step.py -o {out}")


if __name__ == "__main__":
    main()
