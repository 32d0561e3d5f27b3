"""What an RTX 3060 12 GB could do at best: its published peak rates, and the time of a launch at them. Part of
tools/predict_step.py.

Sources: NVIDIA, "NVIDIA Ampere GA102 GPU Architecture", version 2.1, 2021 (multiprocessor of compute capability
8.6: units and tensor-core operations a clock; on GeForce cards sums in fp32 run at half the rate of sums in fp16);
the product page of the GeForce RTX 3060 12 GB (3,584 CUDA cores, 1.78 GHz boost clock, 192-bit GDDR6 at 15 Gb/s);
CUDA C++ Programming Guide, "Arithmetic Instructions" (results a clock and multiprocessor)."""

import math

from kernel_report import WARPS, occupancy

MULTIPROCESSORS = 28
CLOCK = 1.777e9
BANDWIDTH = 360e9
# Floating-point operations a clock and multiprocessor on the tensor cores, dense, with sums in fp32.
TENSOR = {"tf32": 256, "bf16": 512, "fp16": 512}
# Lanes, warp instructions or wavefronts a clock and multiprocessor.
FP32, FP64, SPECIAL, ISSUE, WAVEFRONTS = 128, 2, 16, 4, 1


def peak(precision):
    """Operations a second of the units that multiply at this precision."""
    return TENSOR.get(precision, 2 * FP32) * MULTIPROCESSORS * CLOCK


class Prediction:
    """Times in seconds of one launch, each as if nothing else held it up."""

    def __init__(self, launch, registers, static_shared, precision):
        self.launch, self.precision = launch, precision
        share, _ = occupancy(registers, static_shared + launch.dynamic_shared, launch.threads)
        resident = round(share * WARPS) // -(-launch.threads // 32)
        self.waves = launch.blocks / (MULTIPROCESSORS * resident)
        self.minimal, self.counted = launch.minimal_bytes(), launch.counted_bytes()
        # The share of its blocks that a multiprocessor has on average, of those that the busiest one has.
        self.balance = launch.blocks / (math.ceil(launch.blocks / MULTIPROCESSORS) * MULTIPROCESSORS)
        at = 1 / (self.balance * MULTIPROCESSORS * CLOCK)
        self.on_chip = {
            "tensor cores": at * launch.counter("tensor_operations") / TENSOR.get(precision, 256),
            "fp32": at * launch.counter("float") / FP32,
            "fp64": at * launch.counter("double") / FP64,
            "special functions": at * launch.counter("special") / SPECIAL,
            "issue slots": at * launch.counter("warp_instructions") / ISSUE,
            "shared memory": at * launch.counter("shared_wavefronts") / WAVEFRONTS,
        }

    def best(self):
        """Seconds where every operand passes the memory once."""
        return max(*self.on_chip.values(), self.minimal / BANDWIDTH)

    def worst(self):
        """Seconds where the L2 cache saves nothing."""
        return max(*self.on_chip.values(), self.counted / BANDWIDTH)

    def bound(self):
        """What sets the best time and, where that is another thing, the worst."""
        limit = max(self.on_chip, key=self.on_chip.get)
        best, worst = ("bytes" if size / BANDWIDTH >= self.on_chip[limit] else limit
                       for size in (self.minimal, self.counted))
        return best if best == worst else f"{best} / {worst}"

    def reach(self, seconds):
        """Share of the peak rate of the precision's units."""
        return self.launch.operations() / seconds / peak(self.precision)

    def conflicts(self):
        """Share of the wavefronts of shared memory that bank conflicts add."""
        wavefronts = self.launch.counter("shared_wavefronts")
        return self.launch.counter("shared_conflicts") / wavefronts if wavefronts else 0.0
