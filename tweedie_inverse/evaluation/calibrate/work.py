"""The work: truths, measurements, samples, records; kept in a folder, shared among processes."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from tweedie_inverse.evaluation.calibrate.plan import Plan
from tweedie_inverse.evaluation.calibrate.record import Record
from tweedie_inverse.evaluation.calibrate.sources import seed_of
from tweedie_inverse.runtime.atomic import ready_folder, replace

_SETTINGS = "settings.json"


def path_of(folder: Path, number: int) -> Path:
    """The file of a truth's record."""
    return folder / f"truth-{number:05d}.safetensors"


def settle(folder: Path, plan: Plan) -> None:
    """Note what a folder's records are made with; their number may grow.

    Raises:
        ValueError: it holds records of other settings, or cannot be written.
    """
    ready_folder(folder)
    path, text = folder / _SETTINGS, json.dumps(dict(plan.settings), indent=1, sort_keys=True)
    if path.is_file():
        try:
            there = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"calibrate: {path} is damaged; use another folder") from error
        wanted = json.loads(text)
        other = [name for name in wanted if there.get(name) != wanted[name]]
        if other:
            pairs = ", ".join(f"{name}: {there.get(name)} there, {wanted[name]}" for name in other)
            raise ValueError(
                f"calibrate: {folder} holds truths of other settings ({pairs} now). Use the same "
                "to go on, or another folder"
            )
    replace(path, text.encode())


def missing(plan: Plan, numbers: Sequence[int]) -> list[int]:
    """Those whose record is not there, or damaged."""
    if plan.folder is None:
        return list(numbers)
    return [number for number in numbers if not _is_there(path_of(plan.folder, number))]


def _is_there(path: Path) -> bool:
    try:
        Record.load(path)
    except (OSError, ValueError):
        return False
    return True


def work(
    plan: Plan, numbers: Sequence[int], tell: Callable[[int], None] = lambda done: None
) -> dict[int, Record]:
    """Make the records of these truths, block by block; those of a folder are kept there."""
    found: dict[int, Record] = {}
    left, together = missing(plan, numbers), plan.sampler.together()
    tell(len(numbers) - len(left))
    for first in range(0, len(left), together):
        block = left[first : first + together]
        for number, record in zip(block, _records(plan, block), strict=True):
            if plan.folder is None:
                found[number] = record
            else:
                record.save(path_of(plan.folder, number))
        tell(len(block))
    return found


def gathered(plan: Plan, found: dict[int, Record]) -> Record:
    """All truths in one, from memory or from the folder."""
    numbers = range(plan.count)
    if plan.folder is not None:
        return Record.stacked([Record.load(path_of(plan.folder, number)) for number in numbers])
    return Record.stacked([found[number] for number in numbers])


@torch.no_grad()
def _records(plan: Plan, block: list[int]) -> list[Record]:
    device = plan.source.prior.device
    truths = plan.source.draw(block, plan.seed).to(device)
    y = torch.stack([plan.measured(x, k) for x, k in zip(truths, block, strict=True)])
    batch = plan.sampler(y, [seed_of("calibrate solve", plan.seed, number) for number in block])
    return [
        Record.of(
            truths[k],
            batch.samples[k],
            y[k],
            plan.quantities,
            (plan.seed, number),
            fits=batch.fits[k],
            evaluations=batch.evaluations,
            plants=plan.plants,
        )
        for k, number in enumerate(block)
    ]
