"""Changes to images before a model predicts them again."""

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]


def noisy(images: Images, deviation: float) -> Images:
    """Add Gaussian noise of this standard deviation to each pixel, the same on every call."""
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 1).astype(np.float32)


def faded(images: Images, share: float) -> Images:
    """Scale the brightness by this share."""
    return images * np.float32(share)
