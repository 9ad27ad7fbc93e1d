"""What this process has held at most."""

import sys

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Begin anew, where that is possible: on accelerators."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak: of torch's allocator on CUDA, else of the whole process.

    None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
