"""What a pickle of plain tensors may import and call. Everything else is refused."""

from __future__ import annotations

STORAGE_BYTES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "IntStorage": 4,
    "LongStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4,
    "DoubleStorage": 8, "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16, "UntypedStorage": 1,
}  # fmt: skip
"""Bytes an element of each kind of storage takes."""

_DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    "bfloat16", "complex64", "complex128",
)  # fmt: skip

REBUILD = frozenset(("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2"))
"""Functions that make a tensor of a storage, an offset, a size and strides."""

INERT = frozenset(
    {
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("argparse", "Namespace"),
    }
)
"""Leftovers of a training script: the child process puts a dummy in their place."""

CALLED = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "Size"),
        ("torch", "device"),
        ("torch.serialization", "_get_layout"),
        ("_codecs", "encode"),
        ("builtins", "set"),
        ("__builtin__", "set"),
        *REBUILD,
        *INERT,
    }
)
"""Globals that may be called."""

ALLOWED = frozenset(
    {
        ("torch.storage", "UntypedStorage"),
        *(("torch", kind) for kind in STORAGE_BYTES),
        *(("torch", dtype) for dtype in _DTYPES),
        *CALLED,
    }
)
"""Globals that may be named: they are called, or are data such as a kind of storage."""
