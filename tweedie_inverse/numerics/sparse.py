"""Compressed sparse rows with the indices torch multiplies fastest: 32 bits where they suffice.

The operand of a product is ``(columns, batch)`` and contiguous, so that a batch shares every
index that is read.
"""

import warnings

import torch
from torch import Tensor

# Entries transposed at once: bounds the memory of the sort.
_CHUNK = 2**21


def csr(counts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """The matrix ``(rows, width)``; row i has ``counts[i]`` entries, with increasing columns."""
    # 32 bits count up to 2^31 - 1 entries.
    index = torch.int32 if len(values) < 2**31 else torch.int64
    starts = torch.zeros(len(counts) + 1, dtype=index, device=values.device)
    starts[1:] = counts.cumsum(0)
    # Once in every process torch warns that CSR tensors are in beta, and some versions that their
    # invariants are not checked, although they were asked not to.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly")
        return torch.sparse_csr_tensor(
            starts, columns.to(index), values, (len(counts), width), check_invariants=False
        )


def stack_rows(parts: list[Tensor]) -> Tensor:
    """One matrix that has the rows of all `parts`, in their order."""
    return csr(
        torch.cat([part.crow_indices().diff() for part in parts]),
        torch.cat([part.col_indices() for part in parts]),
        torch.cat([part.values() for part in parts]),
        parts[0].shape[1],
    )


def transpose(matrix: Tensor) -> Tensor:
    """The transpose, again in compressed rows, by a counting sort in chunks.

    Apart from the result it needs the memory of one chunk; sorting all entries at once would take
    three times the memory of the matrix.
    """
    height, width = matrix.shape
    starts, old_columns, old_values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
    counts = [torch.bincount(part, minlength=width) for part in old_columns.split(_CHUNK)]
    total = torch.stack(counts).sum(0)
    free = total.cumsum(0) - total  # the next free place of each new row
    columns, values = torch.empty_like(old_columns), torch.empty_like(old_values)
    for number, count in enumerate(counts):
        chunk = slice(number * _CHUNK, (number + 1) * _CHUNK)
        part, order = old_columns[chunk].sort(stable=True)
        place = torch.arange(len(part), device=matrix.device)
        target = (free - count.cumsum(0) + count)[part] + place
        old = (place + chunk.start).to(starts.dtype)
        rows = torch.searchsorted(starts, old, right=True, out_int32=True) - 1
        columns[target] = rows[order].to(columns.dtype)
        values[target] = old_values[chunk][order]
        free += count
    return csr(total, columns, values, height)


def nbytes(matrix: Tensor) -> int:
    """Memory of indices and values, in bytes."""
    parts = (matrix.crow_indices(), matrix.col_indices(), matrix.values())
    return sum(part.numel() * part.element_size() for part in parts)
