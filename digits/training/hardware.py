"""What models are trained on in this process, and what of it changes the bits of the weights."""

from typing import Any

from digits.training.devices import backend, resolve_device
from digits.training.precisions import fastest_precision
from digits.training.processors import processor
from digits.training.variables import keyed_variables, recorded_variables


def describe_hardware() -> dict[str, Any]:
    """Return device, processor, fastest precision and variables, as plain values.

    Imports no backend. Raises UsageError if the backend is unknown or missing.
    """
    device = resolve_device("auto")
    fastest = fastest_precision(device)
    return {
        "device": device,
        "backend": backend(),
        "processor": processor(),
        "precision": fastest.precision,
        "reason": fastest.reason,
        "variables": keyed_variables() | recorded_variables(),
    }
