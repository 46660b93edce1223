"""Random affine and elastic distortions of training images.

A distortion maps each pixel of the new image to its position in the original. The images of a
group share one, since computing these positions takes as long as filling an image: a minibatch
still has as many distortions as images, and no image gets the same one twice. Elastic distortions
follow Simard et al. (2003).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from digits.models import Distortion

Array = npt.NDArray[Any]
# Images that share a distortion; a larger group saves little time.
GROUP = 32


def distort(images: Array, settings: Distortion, generator: np.random.Generator) -> Array:
    """Return images float32 (N, H, W) in 0..1, each slightly distorted; pixels moving in are 0.

    Images that are N / GROUP apart get the same distortion.
    """
    num_images, height, width = images.shape
    num_distortions = -(-num_images // GROUP)
    corners, weights = _sources(num_distortions, (height, width), settings, generator)
    # Each row is one pixel across a group, since a group reads the same positions.
    padded = np.zeros((num_distortions, GROUP, height + 2, width + 2), np.float32)
    for member in range(GROUP):
        of_member = images[member * num_distortions : (member + 1) * num_distortions]
        padded[: len(of_member), member, 1:-1, 1:-1] = of_member
    grouped = padded.reshape(num_distortions, GROUP, -1).transpose(0, 2, 1)
    distorted = np.empty((GROUP, num_distortions, height * width), np.float32)
    total, part = np.empty((2, height * width, GROUP), np.float32)
    steps = (0, 1, width + 2, width + 3)
    for number in range(num_distortions):
        pixels = np.ascontiguousarray(grouped[number])
        for share, step in zip(weights[:, number, :, np.newaxis], steps, strict=True):
            target = part if step else total
            # No position is out of range; clipping only avoids a copy.
            np.take(pixels, corners[number] + step, axis=0, out=target, mode="clip")
            target *= share
            if step:
                total += part
        distorted[:, number] = total.T
    return distorted.reshape(-1, height, width)[:num_images]


def _sources(
    num: int, shape: tuple[int, int], settings: Distortion, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return each pixel's source: the upper left of four neighbors, and each neighbor's weight.

    The positions (num, H * W) refer to an image padded by one row or column on every side. The
    weights float32 (4, num, H * W) are of the upper left, upper right, lower left and lower right.
    """
    height, width = shape
    rows, columns = _places(num, shape, settings, generator)
    rows, columns = np.clip(rows + 1, 0, height + 0.999), np.clip(columns + 1, 0, width + 0.999)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    down, right = rows - top, columns - left
    shares = np.stack(
        [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    )
    return top * (width + 2) + left, shares.astype(np.float32)


def _places(
    num: int, shape: tuple[int, int], settings: Distortion, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return the source row and column (num, H * W) of each pixel of a new image."""
    height, width = shape
    down, right = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
    down, right = down - (height - 1) / 2, right - (width - 1) / 2

    def uniform(limit: float) -> Array:
        return generator.uniform(-limit, limit, (num, 1)).astype(np.float32)

    angle = np.deg2rad(uniform(settings.rotation))
    shear = uniform(settings.shear)
    tall, wide = 1 + uniform(settings.scaling), 1 + uniform(settings.scaling)
    moved_down, moved_right = uniform(settings.translation), uniform(settings.translation)
    rows = (np.cos(angle) * down - np.sin(angle) * right) / tall + moved_down
    columns = (np.sin(angle) * down + np.cos(angle) * right) / wide + shear * down + moved_right
    rows, columns = rows + (height - 1) / 2, columns + (width - 1) / 2
    if settings.elastic:
        field = _elastic(2 * num, shape, settings, generator).reshape(2, num, -1)
        rows, columns = rows + field[0], columns + field[1]
    return rows, columns


def _elastic(
    num: int, shape: tuple[int, int], settings: Distortion, generator: np.random.Generator
) -> Array:
    """Return smooth random displacements float32 (num, H, W), in pixels."""
    noise = generator.standard_normal((num, *shape), np.float32)
    over_rows, over_columns = (_smoothing(size, settings.smoothness) for size in shape)
    displacements: Array = settings.elastic * (over_rows @ noise @ over_columns.T)
    return displacements


def _smoothing(size: int, sigma: float) -> Array:
    """Return a matrix (size, size) that smooths white noise by a Gaussian, keeping its variance."""
    places = np.arange(size, dtype=np.float32)
    kernel = np.exp(-0.5 * ((places[:, np.newaxis] - places) / sigma) ** 2)
    smoothing: Array = kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))
    return smoothing
