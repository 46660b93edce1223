"""Whether a model in another format gives the same labels as the Keras model it was made from."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digits.errors import DigitsError

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]
Predict = Callable[[Array], Array]
"""Class probabilities (N, K) of images float32 (N, H, W, 1) in 0..1."""


def check_labels(
    model: "keras.Model", others: Mapping[str, Predict], parts: Iterable[Array]
) -> Array:
    """Compare the labels of other formats with the model's own, and return the labels, int (N,).

    `parts` yields images float32 (n, H, W, 1) in 0..1. Raises DigitsError naming the formats that
    differ, and on how many images.
    """
    wrong, all_labels = dict.fromkeys(others, 0), []
    for images in parts:
        labels = np.asarray(model.predict_on_batch(images)).argmax(axis=1)
        all_labels.append(labels)
        for form, other in others.items():
            wrong[form] += int((other(images).argmax(axis=1) != labels).sum())
    found = np.concatenate(all_labels)
    differing = [f"{form} on {number:,}" for form, number in wrong.items() if number]
    if differing:
        raise DigitsError(
            f"converted labels do not match the model's: {', '.join(differing)} of "
            f"{len(found):,} test images; nothing was written"
        )
    return found
