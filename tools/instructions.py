#!/usr/bin/env python3
"""Counts the instructions of hot operations and compares them with tools/instructions.toml: a guard of speed that
knows no clock, so that a busy machine does not matter.

    python3 tools/instructions.py             compare; fails where an operation takes 3 % more than the table says
    python3 tools/instructions.py --write     count anew and write the table, after a change that is meant

Needs valgrind, cargo and Python 3.11. `examples/instructions.rs` runs each operation once and five times under
callgrind, on one thread with AVX2, the widest vectors that valgrind 3.19 knows; a quarter of the difference is one call
without what comes before it. Instructions are not time: a change that trades more of them for fewer cache misses is
measured with `hexcuda bench`, and the table follows.

Another compiler makes other code, so that the table names its rustc. Under another one the comparison is printed and
nothing fails: --write it with the newer compiler, in a commit that changes nothing else.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

OPERATIONS = ("convolution_forward", "convolution_weight_gradient", "group_norm_backward", "adam", "rasteriser")
TOLERANCE = 0.03
SIMD = "avx2"
FEW, MANY = 1, 5
ROOT = Path(__file__).resolve().parent.parent


def ran(command, **options):
    """The completed command; its output goes into the message where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not installed: install it and run this again")
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def binary():
    ran(["cargo", "build", "--release", "--example", "instructions"], cwd=ROOT)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "release/examples/instructions"


def counted(program, operation, times):
    """Instructions of the whole program. Nothing of the caller's environment, which lies on the stack, is passed on."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, operation, str(times)]
    environment = {"PATH": os.environ.get("PATH", ""), "HEXCUDA_SIMD": SIMD, "RAYON_NUM_THREADS": "1"}
    done = ran(command, env=environment)
    if done.stdout.strip() != SIMD:
        sys.exit(f"the table holds for {SIMD}, and this machine runs {done.stdout.strip()}: count on an x86-64 with it")
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def of_a_call(program, operation):
    return (counted(program, operation, MANY) - counted(program, operation, FEW)) // (MANY - FEW)


def written(compiler, counts):
    lines = ["# Instructions of one call: written by tools/instructions.py, which says how they are counted.",
             f'rustc = "{compiler}"', f'simd = "{SIMD}"', "", "[instructions]"]
    return "\n".join([*lines, *(f"{name} = {count}" for name, count in counts.items())]) + "\n"


def compared(table, counts):
    """Names that take more than the table allows; prints a line for each operation."""
    worse = []
    for name, count in counts.items():
        before = table["instructions"].get(name)
        if before is None:
            print(f"{name:<30}{count:>14,}  not in the table")
            worse.append(name)
            continue
        change = count / before - 1
        note = ""
        if change > TOLERANCE:
            note = f"  more than {TOLERANCE:.0%} above the table"
            worse.append(name)
        elif change < -TOLERANCE:
            note = "  better: bring the table up to it with --write, so that it is kept"
        print(f"{name:<30}{count:>14,}{before:>14,}{change:>+9.2%}{note}")
    return worse


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table")
    parser.add_argument("--table", type=Path, default=ROOT / "tools/instructions.toml")
    options = parser.parse_args()
    compiler, program = ran(["rustc", "--version"], cwd=ROOT).stdout.strip(), binary()
    counts = {name: of_a_call(program, name) for name in OPERATIONS}
    if options.write:
        options.table.write_text(written(compiler, counts))
        print(written(compiler, counts), end="")
        return
    table = tomllib.loads(options.table.read_text())
    worse = compared(table, counts)
    if table["rustc"] != compiler:
        print(f"warning: the table is of {table['rustc']}, this is {compiler}: nothing is judged. "
              "Write it with the newer of the two, in a commit of its own.", file=sys.stderr)
    elif worse:
        sys.exit(f"{', '.join(worse)}: slower than the table. If that is meant, tools/instructions.py --write and say why")


if __name__ == "__main__":
    main()
