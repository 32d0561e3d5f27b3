"""Run folders to the bounded data of docs/paper/data."""

import json
import statistics
import sys

from .common import DATA, SEEDS, rounded, shown, write

COMMANDS = {
    "quick": "hexcuda diagnose --out DIR",
    "standard": "hexcuda diagnose --preset standard --out DIR",
    "study": "hexcuda diagnose --study --seeds 1 --out DIR",
}
LOOKS = ("step", "epoch", "explained", "occupied")
POSTERIOR = ("rate", "active")
GRADIENT = ("reconstruction", "rate", "cosine")


def settings(content):
    """Of a cell, what the text or a figure asks for."""
    a, latent, training = content["architecture"], content["latent"], content["training"]
    likelihood, optimiser = content["likelihood"], content["optimiser"]
    return {
        "planes": a["planes"],
        "values": 6 * a["planes"] ** 2 * a["channels"],
        "floats": 6 * (a["planes"] // a["patch"]) ** 2 * a["latent_channels"],
        "patch": a["patch"],
        "representation": content["representation"],
        "likelihood": likelihood["kind"],
        "reduction": likelihood["reduction"],
        "latent": latent["kind"],
        "prior": latent.get("prior", "standard"),
        "beta": latent.get("beta"),
        "kl_reduction": latent.get("kl_reduction", "sum"),
        "kl_warmup": latent.get("kl_warmup", 0),
        "kl_cap": latent.get("kl_cap"),
        "free_bits": latent.get("free_bits", 0.0),
        "blur": training["blur"],
        "steps": training["steps"],
        "batch": training["batch"],
        "initialisation": training["initialisation"],
        "learning_rate": optimiser["learning_rate"],
        "clip_norm": optimiser["clip_norm"],
    }


def looks(run):
    """The course of a run, column by column."""
    found = run["looks"]
    columns = {key: [look[key] for look in found] for key in LOOKS}
    if all(look["posterior"] for look in found):
        columns |= {key: [look["posterior"][key] for look in found] for key in POSTERIOR}
        columns["log_variance"] = rounded([look["posterior"]["log_variance"] for look in found], 3)
    if all(look["gradient"] for look in found):
        columns |= {f"gradient_{key}": rounded([look["gradient"][key] for look in found], 3) for key in GRADIENT}
    return rounded(columns, 4)


def run_of(content):
    first, last = content["looks"][0]["edge"], content["looks"][-1]["edge"]
    return {
        "seed": content["seed"],
        "diverged": content["diverged"],
        "parameters": content["parameters"],
        "data_occupied": content["data_occupied"],
        "data_variance": content["data_variance"],
        "looks": looks(content),
        "end": content["end"],
        "edge_first": rounded(first["magnitude"], 4),
        "edge_last": rounded(last["magnitude"], 4),
        "edge_pixels": rounded(first["pixels"], 4),
    }


def grid(name, folder):
    """One diagnosis, whole or as far as it is."""
    manifest = json.loads((folder / "diagnosis.json").read_text())
    predictions = {p["cell"]: p for p in json.loads((folder / "predictions.json").read_text())}
    cells = []
    for cell in manifest["cells"]:
        paths = sorted((folder / "runs").glob(f"{cell['name']}-s[0-9]*.json"))
        # A name may be the start of another.
        runs = [r for r in (json.loads(path.read_text()) for path in paths) if r["cell"] == cell["name"]]
        if runs:
            cells.append(
                {
                    "name": cell["name"],
                    "role": cell["role"],
                    "settings": settings(cell["settings"]),
                    "predicted": predictions.get(cell["name"]),
                    "runs": [run_of(run) for run in sorted(runs, key=lambda run: run["seed"])],
                }
            )
    if not cells:
        sys.exit(f"{folder}: no run has ended yet")
    verdicts = folder / "verdicts.json"
    expected = len(manifest["cells"]) * SEEDS[name]
    there = sum(len(cell["runs"]) for cell in cells)
    content = {
        "made_by": {"command": COMMANDS[name], "hexcuda": manifest["version"], "collected_by": "tools/paper.py collect"},
        "complete": verdicts.exists() and there >= expected,
        "cells_expected": len(manifest["cells"]),
        "runs": there,
        "runs_expected": expected,
        "heads": len(manifest["meshes"]),
        "cells": rounded(cells),
        "verdicts": rounded(json.loads(verdicts.read_text())) if verdicts.exists() else [],
    }
    write(f"{name}.json", content)
    print(f"{name}: {there} of {expected} runs, {'whole' if content['complete'] else 'NOT whole yet'}")
    pictures(name, folder, cells)


# Left edge, top, gap and the height of a line of text of the program's contact sheets (src/hexplane/picture/mod.rs).
LEFT, TOP, GAP, LINE = 28 + 92, 28 + 16 + 8, 8, 16
THUMB = 64
# Of the six views in the program's order: front, left, top.
VIEWS = (2, 4, 0)


def pictures(name, folder, cells):
    """Three views of the first head as decoded, and of a draw from the prior, of some cells: one grey picture a grid.

    A row has the input, what was decoded and the draw (blank without one), white where nothing is.
    """
    from PIL import Image

    rows, names = [], []
    for cell in [cell for cell in cells if shown(cell["name"])]:
        path = folder / "pictures" / f"{cell['name']}.png"
        if not path.exists():
            continue
        s = cell["settings"]
        binary, drawn = s["representation"] == "binary", s["latent"] != "deterministic"
        sheet = Image.open(path).convert("RGB")
        pitch = (sheet.width - 2 * 28 - 92 + GAP) // 6
        block = LINE + GAP + (1 if binary else 3) * pitch + LINE
        row = Image.new("L", (3 * len(VIEWS) * THUMB, THUMB), 255)
        for k in range(3 if drawn else 2):
            for at, view in enumerate(VIEWS):
                corner = (LEFT + view * pitch, TOP + k * block + LINE + GAP)
                tile = sheet.crop((*corner, corner[0] + pitch - GAP, corner[1] + pitch - GAP))
                row.paste(thumb(tile, s["planes"]), ((len(VIEWS) * k + at) * THUMB, 0))
        rows.append(row)
        names.append(cell["name"])
    if not rows:
        return
    whole = Image.new("L", (rows[0].width, THUMB * len(rows)))
    for at, row in enumerate(rows):
        whole.paste(row, (0, at * THUMB))
    DATA.mkdir(exist_ok=True)
    path = DATA / f"{name}-planes.png"
    whole.quantize(32).save(path, optimize=True)
    write(f"{name}-planes.json", {"tile": THUMB, "rows": names})
    print(f"docs/paper/data/{path.name}: {path.stat().st_size:,} bytes")


def thumb(tile, planes):
    """A view as shares of ink: white where the program shows the ground of its pages, black where it shows most light."""
    import numpy as np
    from PIL import Image

    srgb = np.asarray(tile, dtype=float)[..., 1] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    decode = lambda c: ((c + 0.055) / 1.055) ** 2.4
    ground, most = decode(0.115), decode(0.87)
    cover = np.clip((linear - ground) / (most - ground), 0, 1)
    image = Image.fromarray((255 * (1 - cover) + 0.5).astype("uint8"))
    if planes <= THUMB:
        # The sheet repeats pixels; take each once, then repeat it as often as the thumb has room.
        image = image.resize((planes, planes), Image.NEAREST)
        return image.resize((THUMB, THUMB), Image.NEAREST)
    return image.resize((THUMB, THUMB), Image.BOX)


def score(metrics, threshold=0.01):
    found = [s["f_score"] for s in metrics or [] if abs(s["threshold"] - threshold) < 1e-6]
    return found[0] if found else None


def scores(mean):
    return {which: score(mean.get(which)) for which in ("mesh", "linear", "ceiling")} if mean else None


def samples_of(path):
    """What draws from one prior come to: health of their meshes, and how near they are to a head trained on."""
    samples = json.loads(path.read_text())
    health = [s["health"] for s in samples if s.get("health")]
    full = [h for h in health if h["faces"] > 0]
    near = [s["nearest"]["chamfer_l1"] for s in samples if s.get("nearest")]
    between = next((s["nearest"]["between_meshes"] for s in samples if s.get("nearest")), None)
    mean = lambda values: statistics.mean(values) if values else None
    return {
        "count": len(samples),
        "with_surface": len(full),
        "watertight": sum(bool(h["watertight"]) for h in full),
        "components": mean([h["components"] for h in full]),
        "fragments": mean([s["fragments"] for s in samples if s.get("health")]),
        "non_manifold": mean([h["non_manifold_edges"] for h in full]),
        "nearest": mean(near),
        "nearest_least": min(near) if near else None,
        "between": between,
        "ratio": mean(near) / between if near and between else None,
        "different_nearest": len({s["nearest"]["name"] for s in samples if s.get("nearest")}) or None,
    }


def sets(folder):
    """All DATA/LATENT under `folder`."""
    found = {}
    for path in sorted(folder.glob("*/*/summary.json")):
        summary = json.loads(path.read_text())
        held_out, latent = summary.get("held_out") or {}, summary.get("latent") or {}
        config = summary.get("config") if isinstance(summary.get("config"), dict) else {}
        entry = {
            "planes": summary.get("planes"),
            "steps": summary.get("steps"),
            "parameters": summary.get("parameters"),
            "seconds": summary.get("seconds"),
            "floats": latent.get("floats"),
            "kl": latent.get("kl"),
            "active_units": latent.get("active_units"),
            "representation": summary.get("representation"),
            "beta": config.get("latent", {}).get("beta"),
            "trained_on": len(summary.get("meshes") or []) or None,
            "left_out": len(held_out.get("meshes") or []) or None,
            "train": scores(summary.get("mean")),
            "held_out": scores(held_out.get("mean")),
            "samples": {
                sample.stem.removeprefix("samples-"): samples_of(sample)
                for sample in sorted(path.parent.glob("samples-*.json"))
            },
            "version": summary.get("version"),
        }
        found.setdefault(path.parts[-3], {})[path.parts[-2]] = entry
    if not found:
        sys.exit(f"{folder}: no DATA/LATENT/summary.json")
    command = "hexcuda train --latent LATENT --held-out HEADS ... --out DATA/LATENT, then hexcuda sample"
    write("sets.json", {"made_by": {"command": command, "collected_by": "tools/paper.py collect"}, "sets": rounded(found)})
