"""Convert: one model's ONNX form, with which it is used without Keras."""

from digits.storage.references import ModelRef, OnnxRef, Reference
from digits.storage.workspace import current_workspace
from tasks.caching import step


@step("convert")
def convert(model: ModelRef, arrays: Reference, device: str) -> OnnxRef:
    """Store the model's ONNX form, which gives the same labels on the whole test set.

    `device` is the run's; it does not affect the result.
    """
    from digits.registry.onnx_forms import make_form

    return make_form(model, arrays, device, current_workspace())
