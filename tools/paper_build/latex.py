"""docs/paper/paper.tex and what the data gives, to paper.pdf."""

import re
import shutil
import subprocess
import sys

from . import figures, numbers, tables
from .common import GRIDS, PAPER, grids, read

MOST_OVERFULL = 10.0


def missing_parts(found, spectra, set_data):
    """What the whole write-up needs and the data does not have."""
    missing = [name for name in GRIDS if name not in found]
    missing += [f"{name} (only {grid.runs} of {grid.runs_expected} runs)" for name, grid in found.items() if not grid.complete]
    missing += [] if spectra else ["spectra"]
    return missing + ([] if set_data else ["sets"])


def build(out, draft):
    found, spectra, set_data = grids(), read("spectra.json"), read("sets.json")
    missing = missing_parts(found, spectra, set_data)
    if missing and not draft:
        sys.exit(f"docs/paper/data lacks {', '.join(missing)}: collect it first, or build with --draft")
    out.mkdir(parents=True, exist_ok=True)
    figures.all_figures(found, spectra, out)
    for name, table in tables.all_tables(found, spectra, set_data).items():
        (out / f"table-{name}.tex").write_text(table)
    (out / "numbers.tex").write_text(numbers.macros(found, spectra, set_data, draft))
    for source in [*PAPER.glob("*.tex"), *PAPER.glob("*.bib")]:
        shutil.copy(source, out / source.name)
    if not shutil.which("latexmk"):
        sys.exit("no latexmk found; install latexmk and texlive-latex-recommended")
    command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "paper.tex"]
    ended = subprocess.run(command, cwd=out, capture_output=True, text=True, errors="replace")
    log = (out / "paper.log").read_text(errors="replace") if (out / "paper.log").exists() else ended.stdout
    faults = complaints(log)
    if ended.returncode:
        faults += [line for line in ended.stdout.splitlines() if re.match(r"^(\./)?[\w-]+\.tex:\d+:|^!", line)] or [ended.stdout[-2000:]]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(f"LaTeX: {len(faults)} complaints")
    if missing:
        print(f"a draft: the data lacks {', '.join(missing)}")
    print(out / "paper.pdf")


def complaints(log):
    """Undefined references and citations, missing figures, and boxes that stick out."""
    # The log breaks its lines at 79 characters.
    joined = re.sub(r"(?<=[^\n]{79})\n", "", log)
    faults = [line for line in joined.splitlines() if re.search(r"(Reference|Citation) .* undefined|File .* not found", line)]
    for line in joined.splitlines():
        over = re.match(r"Overfull \\[hv]box \(([\d.]+)pt too", line)
        if over and float(over[1]) > MOST_OVERFULL:
            faults.append(line)
    return faults
