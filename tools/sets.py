#!/usr/bin/env python3
"""Latents and priors on sets of heads: trains each kind, fits second-stage priors, draws from every prior, and lays the draws side by side.

    tools/sets.py --hexcuda target/release/hexcuda --out DIR NAME=FOLDER...

Each FOLDER holds the meshes of a set; the last four by name are left out of training. DIR/NAME/LATENT is a run, beside it are
samples-own.json and samples-second-stage.json; DIR/NAME.png has a row of draws a prior, DIR/NAME-way.png the way between two heads. What is
there is not made again.
Needs Pillow.
"""

import argparse
import json
import pathlib
import subprocess
import sys

SCORES = 0.01  # the threshold that tables name
LEFT_OUT = 4
DRAWS = 16
STEPS = 300
STEPS_OF_WAY = 9
LATENTS = {
    "deterministic": ["--latent", "deterministic"],
    "gaussian": ["--latent", "gaussian", "--beta", "1e-6"],
    "mixture": ["--latent", "gaussian", "--prior", "mixture", "--beta", "1e-5"],
    "vamp": ["--latent", "gaussian", "--prior", "vamp", "--components", "20", "--beta", "1e-5"],
    "categorical": ["--latent", "categorical"],
    "fsq": ["--latent", "fsq"],
}
ENDINGS = {".ply", ".obj", ".stl", ".glb", ".gltf"}


def run(*command, stdout=None):
    print("+", *[str(part) for part in command[:6]], "...", file=sys.stderr)
    done = subprocess.run([str(part) for part in command], stdout=stdout, text=True)
    if done.returncode:
        sys.exit(f"{command[1]} ended with code {done.returncode}")
    return done.stdout


def one(hexcuda, meshes, left_out, folder, latent):
    """The run of a latent with its draws."""
    if not (folder / "summary.json").exists():
        options = ["--preset", "quick", "--steps", STEPS, "--quiet", *LATENTS[latent]]
        run(hexcuda, "train", *meshes, "--held-out", *left_out, "--out", folder, *options)
    if not (folder / "prior.json").exists():
        report = run(hexcuda, "prior", *meshes, "--held-out", *left_out, "--run", folder, "--json", stdout=subprocess.PIPE)
        (folder / "prior.json").write_text(report)
    kinds = [("second-stage", ["--second-stage"])]
    if latent != "deterministic":
        kinds.insert(0, ("own", []))
    for kind, options in kinds:
        path = folder / f"samples-{kind}.json"
        if not path.exists():
            drawn = ["sample", "--run", folder, "-n", DRAWS, "-o", folder / f"samples-{kind}", "--json"]
            text = run(hexcuda, *drawn, *options, "--nearest-to", *meshes, stdout=subprocess.PIPE)
            path.write_text(text)


# Left edge, top, gap and the height of a line of text of the program's contact sheets (src/hexplane/picture/mod.rs).
LEFT, TOP, GAP, LINE = 28 + 92, 28 + 16 + 8, 8, 16
FRONT, LEFT_VIEW = 2, 4


def views(sheet, view):
    """One of the views of a contact sheet, once a block."""
    pitch = (sheet.width - 2 * 28 - 92 + GAP) // 6
    block = LINE + GAP + pitch + LINE
    top = TOP + LINE + GAP
    while top + pitch - GAP <= sheet.height:
        left = LEFT + view * pitch
        yield sheet.crop((left, top, left + pitch - GAP, top + pitch - GAP))
        top += block


def grid(rows, path):
    """Rows of a name and pictures."""
    from PIL import Image, ImageDraw

    tile, name = 96, 190
    whole = Image.new("RGB", (name + max(len(tiles) for _, tiles in rows) * tile, len(rows) * tile), (16, 18, 21))
    draw = ImageDraw.Draw(whole)
    for at, (text, tiles) in enumerate(rows):
        draw.text((10, at * tile + tile // 2 - 6), text, fill=(200, 204, 210))
        for k, image in enumerate(tiles):
            whole.paste(image.resize((tile - 4, tile - 4)), (name + k * tile + 2, at * tile + 2))
    whole.quantize(64).save(path, optimize=True)


def picture(folder, path):
    """A row of draws a prior."""
    from PIL import Image

    rows = []
    for latent in LATENTS:
        for kind in ("own", "second-stage"):
            sheet = folder / latent / f"samples-{kind}" / "planes.png"
            if sheet.exists():
                rows.append((f"{latent}, {'own prior' if kind == 'own' else 'second stage'}", list(views(Image.open(sheet).convert("RGB"), FRONT))))
    grid(rows, path)


def way(hexcuda, ends, folder, path):
    """The way between two heads in the deterministic latent."""
    from PIL import Image

    steps = folder / "deterministic" / "way"
    if not (steps / "way.json").exists():
        text = run(hexcuda, "interpolate", "--run", folder / "deterministic", *ends, "-n", STEPS_OF_WAY, "-o", steps, "--json", stdout=subprocess.PIPE)
        (steps / "way.json").write_text(text)
    sheet = Image.open(steps / "planes.png").convert("RGB")
    grid([("front", list(views(sheet, FRONT))), ("left", list(views(sheet, LEFT_VIEW)))], path)
    health = [(row["health"], row["fragments"]) for row in json.loads((steps / "way.json").read_text())]
    sound = sum(h["watertight"] and h["components"] == 1 for h, _ in health)
    print(f"\nthe way between two heads: {sound} of {len(health)} meshes are watertight and in one piece, without {sum(n for _, n in health)} specks")


def score(rows):
    found = [row["f_score"] for row in rows if abs(row["threshold"] - SCORES) < 1e-6]
    return f"{found[0]:.3f}"


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if values else None


def table(folder):
    """Rows of Markdown."""
    print("| latent | trained on | left out | ceiling | prior | watertight | components | nearest head / between heads | different nearest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for latent in LATENTS:
        summary = json.loads((folder / latent / "summary.json").read_text())
        mean, held_out = summary["mean"], summary["held_out"]["mean"]
        scores = [score(mean["mesh"]), score(held_out["mesh"]), f"{score(mean['ceiling'])} / {score(held_out['ceiling'])}"]
        for kind in ("own", "second-stage"):
            path = folder / latent / f"samples-{kind}.json"
            if not path.exists():
                continue
            samples = json.loads(path.read_text())
            health = [s["health"] for s in samples if s["health"]]
            first = next((s for s in samples if s.get("nearest")), None)
            near = [s["nearest"]["chamfer_l1"] for s in samples if s.get("nearest")]
            cells = [
                kind.replace("-", " "),
                f"{sum(h['watertight'] for h in health)} of {len(samples)}",
                f"{sum(h['components'] for h in health) / max(len(health), 1):.1f}",
                f"{median(near) / first['nearest']['between_meshes']:.2f}" if near else "n/a",
                str(len({s["nearest"]["name"] for s in samples if s.get("nearest")})),
            ]
            print("|", " | ".join([latent, *scores, *cells]), "|")
            scores = ["", "", ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hexcuda", default="target/release/hexcuda")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER")
    args = parser.parse_args()
    for named in args.sets:
        name, _, source = named.partition("=")
        meshes = sorted(path for path in pathlib.Path(source).iterdir() if path.suffix in ENDINGS)
        if len(meshes) <= LEFT_OUT + 1:
            sys.exit(f"{source}: {len(meshes)} meshes, expected more than {LEFT_OUT + 1}")
        for latent in LATENTS:
            one(args.hexcuda, meshes[:-LEFT_OUT], meshes[-LEFT_OUT:], args.out / name / latent, latent)
        picture(args.out / name, args.out / f"{name}.png")
        print(f"\n{name}: {len(meshes) - LEFT_OUT} heads trained on, {LEFT_OUT} left out, F-score at {SCORES}\n")
        table(args.out / name)
        way(args.hexcuda, (meshes[2], meshes[13]), args.out / name, args.out / f"{name}-way.png")


if __name__ == "__main__":
    main()
