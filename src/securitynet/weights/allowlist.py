"""What a pickle of plain tensors may import and call. Everything else is refused."""

from __future__ import annotations

STORAGE_BYTES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "IntStorage": 4,
    "LongStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4,
    "DoubleStorage": 8, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "UntypedStorage": 1,
}  # fmt: skip
"""Bytes an element of each kind of storage takes."""

STORAGE_DTYPES = {
    "BoolStorage": "bool", "ByteStorage": "uint8", "CharStorage": "int8", "ShortStorage": "int16",
    "IntStorage": "int32", "LongStorage": "int64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "FloatStorage": "float32", "DoubleStorage": "float64",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}  # fmt: skip
"""Type of its elements."""

NAMED_DTYPES = frozenset(
    ("torch", name)
    for name in (
        "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
        "bfloat16", "complex64", "complex128",
    )
)  # fmt: skip

NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
"""Where numpy's own pickling lies, before and since version 2."""

REBUILD = frozenset(("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2"))
"""Functions that make a tensor of a storage, an offset, a size and strides."""

INERT = frozenset(
    {
        *((module, "scalar") for module in NUMPY),
        *((module, "_reconstruct") for module in NUMPY),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("argparse", "Namespace"),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
    }
)
"""Leftovers of a training script: the child process puts a dummy in their place."""

NAMES = frozenset(
    {("numpy", "ndarray"), *(name for name in INERT if name[0].startswith("pytorch_lightning."))}
)
"""Classes that are only named: as what an array is, or as keys."""

CALLED = frozenset(
    {
        ("collections", "OrderedDict"),
        ("collections", "Counter"),  # the milestones of a schedule
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch.serialization", "_get_layout"),
        ("_codecs", "encode"),
        ("builtins", "set"),
        ("__builtin__", "set"),
        *REBUILD,
        *(INERT - NAMES),
    }
)
"""Globals that may be called, each with the arguments that ``labels.RULES`` allows."""

ALLOWED = frozenset(
    {
        ("torch.storage", "UntypedStorage"),
        *NAMES,
        *(("torch", kind) for kind in STORAGE_BYTES),
        *NAMED_DTYPES,
        *CALLED,
    }
)
"""Globals that may be named: they are called, or are data such as a kind of storage."""
