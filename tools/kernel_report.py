#!/usr/bin/env python3
"""Registers, spills, shared memory and theoretical occupancy of every kernel on sm_86 (RTX 3060).

    pip install nvidia-cuda-nvcc-cu12==12.4.131     # ptxas
    python3 tools/kernel_report.py [--ptxas PATH] [-o docs/kernels.md]

Assembles kernels/ptx/*.ptx with ptxas -v. Exits with 1 where a kernel spills registers, or stays under 25 % occupancy
without a line `// occupancy: NN % because ...` above it. What is printed follows from the code, not from a
measurement. Limits of an sm_86 multiprocessor: CUDA C++ Programming Guide, technical specifications per compute
capability."""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
WARPS, BLOCKS, REGISTERS, SHARED = 48, 16, 65536, 100 * 1024
# Registers are given to warps in pieces of 256, shared memory in pieces of 128 bytes, 1 KiB of it to the system.
REGISTER_PIECE, SHARED_PIECE, SHARED_SYSTEM = 256, 128, 1024
LEAST = 0.25


def find_ptxas(given):
    pip = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia" / "cuda_nvcc" / "bin" / "ptxas"
    for candidate in (given, shutil.which("ptxas"), pip):
        if candidate and pathlib.Path(candidate).exists():
            return str(candidate)
    raise SystemExit("no ptxas: pip install nvidia-cuda-nvcc-cu12==12.4.131, or give --ptxas PATH")


def up(value, piece):
    return -(-value // piece) * piece


def occupancy(registers, shared, threads):
    """Share of the warps of a multiprocessor that can be resident, and what limits it."""
    warps = -(-threads // 32)
    limits = {
        "warps": WARPS // warps,
        "blocks": BLOCKS,
        "registers": REGISTERS // (up(registers * 32, REGISTER_PIECE) * warps),
        "shared memory": SHARED // up(shared + SHARED_SYSTEM, SHARED_PIECE),
    }
    limit = min(limits, key=limits.get)
    return limits[limit] * warps / WARPS, limit


def sources():
    """Name of an entry point -> (file, threads of a block, the comment above it)."""
    found = {}
    pattern = re.compile(r'((?:^//[^\n]*\n)*)^extern "C" __global__ void\s+__launch_bounds__\((\w+)[^)]*\)\s*(\w+)', re.M)
    for path in sorted(KERNELS.glob("*.cu")):
        text = path.read_text()
        for comment, threads, name in pattern.findall(text):
            if not threads.isdigit():
                threads = re.search(rf"constexpr int {threads} = (\d+);", text).group(1)
            found[name] = (path.name, int(threads), comment)
    return found


def assembled(ptxas, path):
    """Name -> (registers, bytes of spills, bytes of static shared memory)."""
    command = [ptxas, "-v", "-arch=sm_86", "-o", "/dev/null", str(path)]
    log = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    found, name = {}, None
    for line in log.splitlines():
        if entry := re.search(r"Compiling entry function '(\w+)'", line):
            name, spills = entry.group(1), 0
        elif spilled := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spills = sum(map(int, spilled.groups()))
        elif used := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            found[name] = (int(used.group(1)), spills, int(shared.group(1)) if shared else 0)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ptxas")
    parser.add_argument("-o", "--out")
    arguments = parser.parse_args()
    ptxas, kernels, faults = find_ptxas(arguments.ptxas), sources(), []
    rows = ["| kernel | threads | registers | spills, bytes | static shared, bytes | occupancy | limited by |",
            "|---|---|---|---|---|---|---|"]
    for path in sorted((KERNELS / "ptx").glob("*.ptx")):
        for name, (registers, spills, shared) in sorted(assembled(ptxas, path).items()):
            _, threads, comment = kernels[name]
            share, limit = occupancy(registers, shared, threads)
            rows.append(f"| `{name}` | {threads} | {registers} | {spills} | {shared:,} | {share:.0%} | {limit} |")
            if spills:
                faults.append(f"{name} spills {spills} bytes of registers")
            if share < LEAST and "occupancy:" not in comment:
                faults.append(f"{name} has {share:.0%} occupancy and no line that excuses it")
    text = "\n".join(rows)
    if arguments.out:
        head = (ROOT / arguments.out).read_text().split("<!-- table -->")[0]
        (ROOT / arguments.out).write_text(f"{head}<!-- table -->\n\n{text}\n")
    else:
        print(text)
    for fault in faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
