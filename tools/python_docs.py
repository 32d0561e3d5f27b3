#!/usr/bin/env python3
"""Runs the Python of docs/python.md on a run folder, one block after another.

    tools/python_docs.py RUN [--torch]

Where the text says runs/mine it takes RUN, which needs the latent of its input beside it (head.hexz). Blocks marked `torch` are run with
--torch. Needs what the text installs.
"""

import argparse
import pathlib
import re
import sys

REPOSITORY = pathlib.Path(__file__).parent.parent


def blocks(text):
    """Each block's first line in the text, its mark and its code."""
    for found in re.finditer(r"^```python(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        yield text.count("\n", 0, found.start()) + 1, found[1].strip(), found[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--torch", action="store_true", help="the blocks that need PyTorch too")
    args = parser.parse_args()
    page = REPOSITORY / "docs/python.md"
    names, count = {"__name__": "__main__"}, 0
    for line, mark, code in blocks(page.read_text()):
        if mark == "torch" and not args.torch:
            continue
        code = code.replace('"runs/mine"', repr(args.run)).replace('"tools/pytorch"', repr(str(REPOSITORY / "tools/pytorch")))
        try:
            # Lines as in the page, so that an error names its place there.
            exec(compile("\n" * line + code, str(page), "exec"), names)
        except Exception as error:
            sys.exit(f"{page}: block at line {line}: {type(error).__name__}: {error}")
        count += 1
    if not count:
        sys.exit(f"{page} has no block of Python")
    print(f"{count} blocks of {page.name} run")


if __name__ == "__main__":
    main()
