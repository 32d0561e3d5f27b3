#!/usr/bin/env python3
"""The write-up in docs/paper: its data from run folders, and its PDF from that data.

    python3 tools/paper.py collect [--quick DIR] [--standard DIR] [--study DIR] [--sets DIR]
    python3 tools/paper.py spectra --hexcuda target/release/hexcuda
    python3 tools/paper.py build -o OUT [--draft]

`collect` reads folders of `hexcuda diagnose` and of trained sets and writes docs/paper/data, which is committed; it
writes what it is given and leaves the rest. `spectra` computes there what linear theory expects at several sizes of
the planes, from the built-in heads. `build` needs that data alone, LaTeX (pdflatex, bibtex, latexmk) and matplotlib: figures, tables and
every number of the text come from it. It leaves OUT/paper.pdf and fails where a part is missing or LaTeX complains;
`--draft` marks missing parts in the text instead. Needs numpy, and for pictures pillow.
"""

import argparse
import sys
from pathlib import Path


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    collect = commands.add_parser("collect", help="data from run folders")
    for grid in ("quick", "standard", "study"):
        collect.add_argument(f"--{grid}", type=Path, metavar="DIR", help=f"folder of the {grid} diagnosis")
    collect.add_argument("--sets", type=Path, metavar="DIR", help="DATA/LATENT/summary.json with samples-PRIOR.json beside")
    spectra = commands.add_parser("spectra", help="what linear theory expects at several sizes")
    spectra.add_argument("--hexcuda", type=Path, default=Path("target/release/hexcuda"))
    build = commands.add_parser("build", help="the PDF from the data")
    build.add_argument("-o", "--out", type=Path, required=True)
    build.add_argument("--draft", action="store_true", help="mark missing parts instead of failing")
    return parser.parse_args()


def main():
    args = arguments()
    if args.command == "collect":
        from paper_build import collect

        given = {name: getattr(args, name) for name in ("quick", "standard", "study") if getattr(args, name)}
        if not given and not args.sets:
            sys.exit("collect: name at least one folder")
        for name, folder in given.items():
            collect.grid(name, folder)
        if args.sets:
            collect.sets(args.sets)
    elif args.command == "spectra":
        from paper_build import spectra

        spectra.collect(args.hexcuda)
    else:
        from paper_build import latex

        latex.build(args.out, args.draft)


if __name__ == "__main__":
    main()
