"""Marching cubes of scikit-image and VTK on one dense head-like volume.

    python tools/peers/marching_cubes.py [N] [--repeats R] [--threads T] [--npy FILE]

Prints the median milliseconds of each, run in turns so that a busy machine is busy for all.
`--npy` keeps the volume (float32, [z, y, x], negative inside) for other programs.
Needs numpy, scikit-image and vtk.
"""

import argparse
import statistics
import time

import numpy as np
import skimage.measure
import vtk
from vtk.util.numpy_support import numpy_to_vtk


def head(n):
    """An ellipsoid with waves of the size of features and of noise over [-1, 1]^3."""
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    ball = np.sqrt((x / 0.65) ** 2 + (y / 0.88) ** 2 + (z / 0.75) ** 2) - 1
    waves = 0.04 * np.sin(9 * x) * np.sin(11 * y) * np.sin(10 * z) + 0.002 * np.sin(70 * x) * np.sin(70 * y)
    return np.ascontiguousarray(ball + waves, dtype=np.float32)


def vtk_image(volume):
    image = vtk.vtkImageData()
    image.SetDimensions(*volume.shape[::-1])
    image.SetSpacing(*(2 / (n - 1) for n in volume.shape[::-1]))
    image.GetPointData().SetScalars(numpy_to_vtk(volume.ravel()))
    return image


def vtk_run(kind, image):
    contour = kind()
    contour.SetInputData(image)
    contour.ComputeNormalsOff()
    contour.ComputeGradientsOff()
    contour.SetValue(0, 0.0)
    contour.Update()
    output = contour.GetOutput()
    return output.GetNumberOfPoints(), output.GetNumberOfPolys()


def skimage_run(volume):
    vertices, faces, _, _ = skimage.measure.marching_cubes(volume, 0.0)
    return len(vertices), len(faces)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=256)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--npy")
    arguments = parser.parse_args()
    vtk.vtkSMPTools.Initialize(arguments.threads)
    volume = head(arguments.n)
    if arguments.npy:
        np.save(arguments.npy, volume)
    image = vtk_image(volume)
    peers = {
        "VTK FlyingEdges3D": lambda: vtk_run(vtk.vtkFlyingEdges3D, image),
        "VTK MarchingCubes": lambda: vtk_run(vtk.vtkMarchingCubes, image),
        "scikit-image": lambda: skimage_run(volume),
    }
    times = {name: [] for name in peers}
    for _ in range(arguments.repeats):
        for name, run in peers.items():
            start = time.perf_counter()
            size = run()
            times[name].append((time.perf_counter() - start) * 1000)
            if len(times[name]) == arguments.repeats:
                median = statistics.median(times[name])
                print(f"{name:18} {median:9.1f} ms   {size[0]} vertices, {size[1]} triangles")


if __name__ == "__main__":
    main()
