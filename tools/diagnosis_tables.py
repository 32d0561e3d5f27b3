#!/usr/bin/env python3
"""A page of docs/diagnosis from the folder of a diagnosis, as Markdown: `python3 tools/diagnosis_tables.py DIR TITLE COMMAND`."""
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


def main(folder, title, command):
    print(f"# {title}\n\n```sh\n{command}\n```\n\nWhat the words mean is in [method.md](../method.md#diagnosis), what follows from it in [diagnosis.md](../diagnosis.md).\n")
    print("| claim | verdict | effect ± spread | measure |\n|---|---|---|---|")
    for verdict in json.loads((folder / "verdicts.json").read_text()):
        effect = f"{verdict['effect']:.3f} ± {verdict['spread']:.3f}"
        print(f"| {verdict['claim']} | {verdict['outcome']} | {effect} | {verdict['measure']}. {verdict['why']} |")
    predictions = {p["cell"]: p for p in json.loads((folder / "predictions.json").read_text())}
    print("\nA number is a mean ± standard deviation over the seeds. Predicted is linear theory for directions of a site's patch; explained is the share of the")
    print("variance by the posterior's mean, by a draw from it, and by another mesh's latent; F is at 0.02, beside its ceiling.\n")
    print("| cell | predicted: nats, active, explained | nats | active | explained: mean | draw | another's | empty | empty draws | F | ceiling |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for cell in json.loads((folder / "diagnosis.json").read_text())["cells"]:
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob(f"runs/{cell['name']}-s*.json"))]
        last = [run["looks"][-1]["posterior"] for run in runs]
        rate, active = ([look and look[key] for look in last] for key in ("rate", "active"))
        end = lambda key: stat([run["end"][key] for run in runs])
        predicted = predictions.get(cell["name"])
        site = predicted and predicted["site"]
        # A fitted deviation of 0 has no finite rate.
        nats = f"{abs(site['rate']):,.1f}" if site and site["rate"] is not None else "no limit"
        text = f"{nats}, {site['active']}, {1 - site['distortion'] / predicted['total']:.3f}" if site else "n/a"
        print(f"| {cell['name']} | {text} | {stat(rate)} | {stat(active)} | {end('of_mean')} | {end('of_draw')} | {end('of_shuffled')} | {end('empty')} | {end('empty_drawn')} | {end('score')} | {end('ceiling')} |")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])
