"""How samples were made, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """How the samples were made and what it cost.

    Attributes:
        method: walk that ran; `reason` says why it was chosen.
        steps: noise levels walked through.
        denoiser_calls: network evaluations a sample.
        operator_calls: applications of A or its adjoint a sample.
        seconds: wall-clock time.
        peak_memory: bytes on the accelerator; 0 on CPU.
        guard_calls: images that the network was tried on before the walk, in all and not a sample:
            3 at first, then 0, because what was found sound is remembered.
    """

    method: str
    reason: str
    steps: int
    denoiser_calls: float
    operator_calls: float
    seconds: float
    peak_memory: int = 0
    guard_calls: int = 0

    @staticmethod
    def joined(parts: Sequence["Stats"], sizes: Sequence[int]) -> "Stats":
        """Those of several batches of `sizes` measurements, by one method: sums and averages."""
        total = sum(sizes)

        def mean(numbers: list[float]) -> float:
            return sum(n * size for n, size in zip(numbers, sizes, strict=True)) / total

        first = parts[0]
        return Stats(
            first.method,
            first.reason,
            first.steps,
            denoiser_calls=mean([part.denoiser_calls for part in parts]),
            operator_calls=mean([part.operator_calls for part in parts]),
            seconds=sum(part.seconds for part in parts),
            peak_memory=max(part.peak_memory for part in parts),
            guard_calls=sum(part.guard_calls for part in parts),
        )
