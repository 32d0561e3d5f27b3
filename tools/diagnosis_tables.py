#!/usr/bin/env python3
"""The tables of docs/diagnosis.md from the folder of a diagnosis, as Markdown: `python3 tools/diagnosis_tables.py DIR`."""
import json
import statistics
import sys
from pathlib import Path


def stat(values):
    """Mean and standard deviation over the seeds, or n/a."""
    if any(value is None for value in values):
        return "n/a"
    mean = statistics.mean(values)
    digits = 0 if abs(mean) >= 100 else 1 if abs(mean) >= 10 else 3
    return f"{mean:,.{digits}f} ± {statistics.stdev(values) if len(values) > 1 else 0:,.{digits}f}"


def main(folder):
    print("| claim | verdict | effect ± spread | measure |\n|---|---|---|---|")
    for verdict in json.loads((folder / "verdicts.json").read_text()):
        effect = f"{verdict['effect']:.3f} ± {verdict['spread']:.3f}"
        print(f"| {verdict['claim']} | {verdict['outcome']} | {effect} | {verdict['measure']}. {verdict['why']} |")
    predictions = {p["cell"]: p for p in json.loads((folder / "predictions.json").read_text())}
    print("\n| cell | predicted: nats, active, explained | nats | active | explained | by another's latent | empty | empty draws |")
    print("|---|---|---|---|---|---|---|---|")
    for cell in json.loads((folder / "diagnosis.json").read_text())["cells"]:
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob(f"runs/{cell['name']}-s*.json"))]
        last = [run["looks"][-1]["posterior"] for run in runs]
        rate, active = ([look and look[key] for look in last] for key in ("rate", "active"))
        end = lambda key: stat([run["end"][key] for run in runs])
        predicted = predictions.get(cell["name"])
        site = predicted and predicted["site"]
        text = f"{abs(site['rate']):,.1f}, {site['active']}, {1 - site['distortion'] / predicted['total']:.3f}" if site else "n/a"
        print(f"| {cell['name']} | {text} | {stat(rate)} | {stat(active)} | {end('of_mean')} | {end('of_shuffled')} | {end('empty')} | {end('empty_drawn')} |")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
