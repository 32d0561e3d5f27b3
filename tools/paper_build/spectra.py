"""What linear theory expects of the built-in heads at several sizes of their silhouettes, without any training."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .common import rounded, write

SIZES = (32, 64, 128, 256, 512)
HEADS = 8
# Those of the study's network, and those of the small grids: four sites along an edge whatever the size.
PATCH, SITES = 32, 4
STUDY_BETA = 1e-6


def silhouettes(hexcuda, folder, size):
    """[heads, 6, size, size]"""
    found = []
    for mesh in sorted(Path(folder).glob("head_*.ply")):
        out = Path(folder) / "planes.npy"
        command = [hexcuda, "rasterize", mesh, "-o", out, "--size", str(size), "--representation", "binary"]
        subprocess.run(command, check=True, capture_output=True)
        found.append(np.load(out).astype(float))
    return np.stack(found)


def variances(rows):
    """Eigenvalues of the covariance of rows, by their Gram matrix; centred rows span one direction less."""
    rows = rows - rows.mean(0)
    return np.clip(np.linalg.eigvalsh(rows @ rows.T / len(rows))[::-1][: len(rows) - 1], 0, None)


def by_site(planes, patch):
    heads, views, size, _ = planes.shape
    sites = size // patch
    patches = planes.reshape(heads, views, sites, patch, sites, patch).transpose(1, 2, 4, 0, 3, 5)
    patches = patches.reshape(views * sites * sites, heads, patch * patch)
    return np.sort(np.concatenate([variances(rows) for rows in patches]))[::-1]


def summary(eigenvalues, values):
    living = eigenvalues[eigenvalues > eigenvalues[0] * 1e-9]
    noise = STUDY_BETA * values / 2
    total = eigenvalues.sum()
    return {
        "largest": eigenvalues[0],
        "median": float(np.median(living)),
        "directions": len(living),
        "critical_beta": [2 * eigenvalues[0] / values, 2 * float(np.median(living)) / values],
        "alive": int((eigenvalues > noise).sum()),
        "explained": 1 - np.minimum(eigenvalues, noise).sum() / total,
        "total": total,
    }


def collect(hexcuda):
    if not hexcuda.exists():
        sys.exit(f"{hexcuda}: no such program; cargo build --release")
    version = subprocess.run([hexcuda, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = [hexcuda, "head", "--count", str(HEADS), "--triangles", "5000", "-o", folder]
        subprocess.run(command, check=True, capture_output=True)
        for size in SIZES:
            planes = silhouettes(hexcuda, folder, size)
            values = planes[0].size
            whole = variances(planes.reshape(HEADS, -1))
            rows.append(
                {
                    "planes": size,
                    "values": values,
                    "noise": STUDY_BETA * values / 2,
                    "mesh": summary(whole, values),
                    "four_sites": summary(by_site(planes, size // SITES), values),
                    "patch_32": summary(by_site(planes, PATCH), values),
                    "pixel_variance": float(planes.var(0).max()),
                }
            )
    made_by = {"command": "tools/paper.py spectra", "hexcuda": version}
    write("spectra.json", {"made_by": made_by, "heads": HEADS, "beta": STUDY_BETA, "sizes": rounded(floats(rows))})


def floats(value):
    """numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {k: floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [floats(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
