"""The launches of one training step as the software driver saw them, and what their kernels' signatures say of them:
shapes, floating-point operations, the bytes that cannot be avoided. Part of tools/predict_step.py."""

import json
import math
import os
import pathlib
import re
import subprocess
import tempfile

from kernel_report import KERNELS

SIZES = {"float": 4, "double": 8, "int": 4, "unsigned": 4, "long long": 8, "unsigned long long": 8,
         "unsigned short": 2, "unsigned char": 1}
# Arrays that are read as well as written where neither `add` nor the comment says so.
UPDATED = {("adam_update", name) for name in ("parameters", "first", "second")}
PRODUCT = re.compile(r"(conv2d|conv_transpose2d)_(forward|backward_dx|backward_dw)_(tf32|bf16|fp16|fp32)_(\w+)")
SECTOR = 32


class Parameter:
    """One parameter of a kernel: its type, name and the comment beside it."""

    PATTERN = re.compile(r"^ {4}(const )?([a-z ]+?)(\*)?(?: __restrict__)? (\w+),? +// (.*)$")

    def __init__(self, line, kernel):
        found = self.PATTERN.match(line)
        if not found or found.group(2) not in SIZES:
            raise SystemExit(f"{kernel}: not a parameter with a comment: {line.strip()}")
        constant, kind, pointer, self.name, self.comment = found.groups()
        self.kind, self.pointer, self.constant = kind, bool(pointer), bool(constant)

    def value(self, digits):
        """What the bytes of a launch say; None for addresses and numbers that are no extents."""
        if self.pointer or self.kind in ("float", "double"):
            return None
        return int.from_bytes(bytes.fromhex(digits), "little", signed=True)


def signatures():
    """Kernel -> (the extents of its grid as its `// launch:` line names them, its parameters)."""
    found = {}
    pattern = re.compile(r'((?:^//[^\n]*\n)*)^extern "C" __global__ void[^(]*\([^)]*\)\s*(\w+)\(\n(.*?)\n\) \{', re.M | re.S)
    for path in sorted(KERNELS.glob("*.cu")):
        for comment, name, body in pattern.findall(path.read_text()):
            grid = re.search(r"launch: grid \((.*)\), block", comment)
            extents = re.split(r", *(?![^(]*\))", grid.group(1)) if grid else []
            found[name] = (extents, [Parameter(line, name) for line in body.split("\n")])
    return found


class Launch:
    """Equal launches of one step: the same kernel, grid and extents."""

    def __init__(self, kernel, record, signature):
        self.kernel, self.grid, self.count = kernel, record["grid"], 0
        self.threads = math.prod(record["block"])
        self.dynamic_shared = record["dynamic_shared"]
        self.blocks = math.prod(self.grid)
        self.extents, self.parameters = signature
        values = zip(self.parameters, record["parameters"])
        self.values = {p.name: v for p, digits in values if (v := p.value(digits)) is not None}
        self.counters = {}

    def key(self):
        return (self.kernel, *self.grid, *self.values.items())

    def add(self, record):
        self.count += 1
        lanes = record["lane_instructions"]
        figures = {**{name: n for name, n in record.items() if isinstance(n, int)}, **lanes}
        for name, number in figures.items():
            self.counters[name] = self.counters.get(name, 0) + number

    def counter(self, name):
        """A counter of one launch."""
        return self.counters[name] / self.count

    def names(self):
        """What the words in the comments' shapes stand for."""
        names = dict(self.values, blocks=self.grid[0])
        for extent, number in zip(self.extents, self.grid):
            if found := re.fullmatch(r"(?:(\d+) )?(\w+)", extent):
                names.setdefault(found.group(2), number // int(found.group(1) or 1))
        for parameter in self.parameters:
            if parameter.name in self.values and (letter := re.match(r"([A-Z])(?:,|$)", parameter.comment)):
                names[letter.group(1)] = self.values[parameter.name]
        for parameter in self.parameters:
            if parameter.name in self.values and (pair := re.match(r"([A-Z]) ([A-Z])(?:,|$)", parameter.comment)):
                names.setdefault(pair.group(2), 1)
                names[pair.group(1)] = self.values[parameter.name] // names[pair.group(2)]
        if "kernel_height" in names:
            names["taps"] = names["kernel_height"] * names["kernel_width"]
        if "values" in names:
            names.setdefault("pixels", names["values"] // names["channels"])
        return names

    def length(self, parameter, names):
        """Values of an array, from the shape in its comment."""
        shape = re.search(r"\[([^\]]*)\]", parameter.comment)
        if not shape:
            raise SystemExit(f"{self.kernel}: no shape in the comment of {parameter.name}")
        length = 1
        for extent in shape.group(1).split(","):
            factors = re.sub(r"(?<=\w) (?=\w)", "*", extent.strip()).replace("/", "//")
            try:
                # The repository's own comments: products and quotients of names.
                length *= eval(factors, {"__builtins__": {}}, names)
            except (NameError, SyntaxError) as error:
                raise SystemExit(f"{self.kernel}: the shape of {parameter.name}: {error}") from None
        return length

    def counted_bytes(self):
        """Sectors that all warps together moved: what the caches in front of the memory are asked for."""
        return SECTOR * (self.counter("load_sectors") + self.counter("store_sectors"))

    def minimal_bytes(self):
        """Every array read once and written once; what a kernel touches in part counts as it was counted."""
        names, total = self.names(), 0
        for parameter in filter(lambda p: p.pointer, self.parameters):
            size = SIZES[parameter.kind] * self.length(parameter, names)
            also_read = self.values.get("add") == 1 or parameter.comment.startswith("inout") \
                or (self.kernel, parameter.name) in UPDATED
            total += size * (2 if not parameter.constant and also_read else 1)
        return min(total, self.counted_bytes())

    def product(self):
        """(op, direction, precision, tile) of a convolution; None of others."""
        found = PRODUCT.fullmatch(self.kernel)
        return found.groups() if found else None

    def operations(self):
        """Floating-point operations. Convolutions: two for each product that their shape asks for. Others:
        instructions on fp32, fp64 and special functions that the emulator counted."""
        if not self.product():
            return sum(self.counter(name) for name in ("float", "double", "special"))
        n = self.values
        small = ("out_height", "out_width") if self.product()[0] == "conv2d" else ("height", "width")
        channels = n["in_channels"] * n["out_channels"]
        return 2 * n["batch"] * n[small[0]] * n[small[1]] * channels * n["kernel_height"] * n["kernel_width"]

    def shape(self):
        """Its extents, as a person reads them."""
        n = self.values
        if self.product():
            taps = f"{n['kernel_height']}x{n['kernel_width']}" + (f" / {n['stride']}" if n["stride"] > 1 else "")
            small = f"{n['batch']} x {n['height']}x{n['width']} x {n['in_channels']}"
            return f"{small} -> {n['out_height']}x{n['out_width']} x {n['out_channels']}, {taps}"
        flags = ("add", "activate", "offset")
        return ", ".join([f"{name} {n[name]:,}" for name in n if name not in flags] + [f for f in flags if n.get(f)])


def recorded(hexcuda, preset, precision, blocks):
    """The launches of one training step, equal ones together, in the order of their first."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        settings = {"CUDA_EMULATOR_BLOCKS": str(blocks), "CUDA_EMULATOR_LAUNCHES": "1",
                    "CUDA_EMULATOR_REPORT": str(report), "CUDA_EMULATOR_CHECKS": "none"}
        command = [hexcuda, "bench", "--step", "--preset", preset, "--precision", precision, "--device", "emulated"]
        done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
        records = json.loads(report.read_text())["launches"]
    updates = [record for record in records if record["kernel"] == "adam_update"]
    if len(updates) != 1 or not updates[0]["store_sectors"]:
        raise SystemExit("not one step: the loss or the gradient of the sampled blocks left the finite numbers")
    known, groups = signatures(), {}
    for record in records:
        name = record["kernel"]
        launch = Launch(name, record, known[name])
        groups.setdefault(launch.key(), launch).add(record)
    return list(groups.values())
