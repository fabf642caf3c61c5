"""Recognition of errors that mean too little memory, on any device."""

from __future__ import annotations

# Texts of RuntimeErrors by which torch's allocators of CPU and MPS memory give up.
_TEXTS = (
    "DefaultCPUAllocator",
    "not enough memory",
    "can't allocate memory",
    "MPS backend out of memory",
    "Invalid buffer size",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def memory_error(error: BaseException) -> MemoryError | None:
    """Return the error in words with the way out if it means too little memory, else None.

    Python's and NumPy's MemoryError, torch.OutOfMemoryError and the RuntimeErrors of torch's
    allocators count.
    """
    # By name: torch is not imported only to ask this.
    gpu = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    if gpu or "MPS backend" in str(error) or "CUBLAS" in str(error):
        smaller = "smaller images (--max-side 1024) or batches"
        ways = f"use --offload, --dtype float16, {smaller}, or --device cpu"
        return MemoryError(f"the memory of the GPU is too small; {ways}")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
    ):
        return MemoryError(
            "the memory of this machine is too small; use smaller images (--max-side 1024) or "
            "batches, or close other programs"
        )
    return None
