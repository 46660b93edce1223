"""What is done to images before a model is asked again."""

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.float32]


def noisy(images: Images, deviation: float) -> Images:
    """With Gaussian noise of this deviation on each pixel, always the same."""
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(images + noise, 0, 1).astype(np.float32)


def faded(images: Images, share: float) -> Images:
    """With this share of their brightness."""
    return images * np.float32(share)
