"""Environment variables that change the bits of what is computed.

Some select another arithmetic: other kernels, other instructions or another precision. Whoever sets
one wants results of that arithmetic, so it is part of the cache key of each step that computes with
a model. The others change only the order in which numbers are added, as another number of cores
does. Results are used on other machines, so these are recorded with the result, as the processor
is, and named where they differ. KERAS_BACKEND is in the key as a library.
"""

import os
from collections.abc import Iterable

# oneDNN read its variables under the older prefix before 2.0, and still does.
_ONEDNN = ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")
KEYED = (
    # oneDNN: whether it computes at all, its instructions, and how precisely.
    *(f"{prefix}_{name}" for prefix in ("ONEDNN", "DNNL") for name in _ONEDNN),
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_ENABLE_ZENDNN_OPTS",
    "TF_SET_ONEDNN_FPMATH_MODE",
    # TensorFlow's kernels and precision.
    "TF_USE_DEEP_CONV2D",
    "TF_ENABLE_WINOGRAD_NONFUSED",
    "TF_CONV2D_USE_FP16_ACCUMULATE",
    "TF_FP16_CONV_USE_FP32_COMPUTE",
    "TF_FP16_MATMUL_USE_FP32_COMPUTE",
    "TF_USE_CUBLASLT",
    "NVIDIA_TF32_OVERRIDE",
    # XLA compiles some or all operations, and its flags select its optimizations.
    "XLA_FLAGS",
    "TF_XLA_FLAGS",
    # The other backends.
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_ENABLE_X64",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
RECORDED = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_OVERRIDE_GLOBAL_THREADPOOL",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    # Kernels are deterministic, but these can lead to the choice of another one.
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_CUDNN_USE_RUNTIME_FUSION",
    "TF_CUDNN_WORKSPACE_LIMIT_IN_MB",
    "TF_MATMUL_AUTOTUNE_ENABLE",
    "CUBLAS_WORKSPACE_CONFIG",
)


def keyed_variables() -> dict[str, str]:
    """Return the variables that are set and that select another arithmetic."""
    return _set_ones(KEYED)


def recorded_variables() -> dict[str, str]:
    """Return the variables that are set and that change the order of additions."""
    return _set_ones(RECORDED)


def _set_ones(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}
