#!/usr/bin/env python3
"""Training steps of a run beside PyTorch's, in turns: times, their ratio, peak memory.

    cargo build --release
    target/release/hexcuda train --preset paper --steps 1 --out RUN
    python tools/pytorch/step.py RUN [--rounds 5] [--steps 3] [--hexcuda target/release/hexcuda]

Both sides start from the run's checkpoint and train on its `input.ply`, fp32, 2 threads: forward, losses, backward, clipping,
Adam. First every way of PyTorch runs once (contiguous and channels_last, eager and, where a C++ compiler works, compiled);
then the fastest of them and `hexcuda bench --steps` take turns, so that other load hits both. Prints a Markdown table:
medians over all steps, the median of the rounds' ratios, and the most memory that each process held (VmHWM). Needs numpy,
safetensors and torch.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = 2
WAYS = [(layout, mode) for mode in ("eager", "compiled") for layout in ("contiguous", "channels_last")]


def serve(run, inputs, layout, mode):
    """The process of one way: for each line with a count on standard input that many step times, ms, and its VmHWM."""
    import torch
    from network import Step
    from safetensors.torch import load_file

    torch.set_num_threads(THREADS)
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    step = Step(run, formats[layout], mode == "compiled")
    tensors = load_file(inputs)
    batch = [tensors[name].clone() for name in ("planes", "points", "distances")]
    del tensors

    def one():
        start = time.perf_counter()
        step.gradients(*batch)
        step.update()
        return 1e3 * (time.perf_counter() - start)

    one()
    for line in sys.stdin:
        times = [one() for _ in range(int(line))]
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(row.split()[1]) * 1024 for row in status if row.startswith("VmHWM:"))
        print(json.dumps({"step_ms": times, "peak_memory_bytes": peak}), flush=True)


class Peer:
    def __init__(self, run, inputs, way):
        self.way = way
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(run), "--serve", str(inputs), *way],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # What an interrupted run left in the common cache may be broken.
            env=dict(os.environ, TORCHINDUCTOR_CACHE_DIR=str(inputs.parent / "compiled")),
        )

    def steps(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"PyTorch ({', '.join(self.way)}) ended with {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def fastest(run, inputs, count):
    """The fastest way, and what each of them took."""
    found = {}
    for way in WAYS:
        peer = Peer(run, inputs, way)
        try:
            found[way] = peer.steps(count)
        except (RuntimeError, BrokenPipeError) as error:
            print(f"left out: {error}", file=sys.stderr)
        finally:
            peer.close()
    return min(found, key=lambda way: statistics.median(found[way]["step_ms"])), found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="counted steps of each side a round")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.run, *arguments.serve)
    environment = dict(os.environ, RAYON_NUM_THREADS=str(THREADS))

    def hexcuda(*words):
        command = [arguments.hexcuda, "bench", str(arguments.run / "input.ply"), "--run", str(arguments.run),
                   "--device", "cpu", "--json", *map(str, words)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)

    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "step.safetensors"
        hexcuda("--step", "--gradients", inputs)
        way, found = fastest(arguments.run, inputs, arguments.steps)
        peer = Peer(arguments.run, inputs, way)
        rounds = [(hexcuda("--steps", arguments.steps), peer.steps(arguments.steps)) for _ in range(arguments.rounds)]
        peer.close()
    print("| PyTorch, each way alone | step, ms | peak memory, MiB |\n|---|---|---|")
    for each, outcome in found.items():
        median = statistics.median(outcome["step_ms"])
        print(f"| {', '.join(each)} | {median:.0f} | {outcome['peak_memory_bytes'] / 2**20:.0f} |")
    ours, theirs = ([t for pair in rounds for t in pair[side]["step_ms"]] for side in (0, 1))
    ratios = [statistics.median(b["step_ms"]) / statistics.median(a["step_ms"]) for a, b in rounds]
    peaks = [max(pair[side]["peak_memory_bytes"] for pair in rounds) / 2**20 for side in (0, 1)]
    print("\n| in turns | median, ms | least, ms | most, ms | peak memory, MiB |\n|---|---|---|---|---|")
    for name, times, peak in (("hexcuda", ours, peaks[0]), (f"PyTorch, {', '.join(way)}", theirs, peaks[1])):
        print(f"| {name} | {statistics.median(times):.0f} | {min(times):.0f} | {max(times):.0f} | {peak:.0f} |")
    print(f"| PyTorch / hexcuda | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | "
          f"{peaks[1] / peaks[0]:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
