"""A walk in a file, to be taken up at the level where it was left.

Random numbers are keyed by step, so that the rest of the walk is what it would have been.  A file
knows the call it belongs to, and is refused by any other.
"""

import json
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.runtime import tensor_file
from tweedie_inverse.runtime.atomic import ready
from tweedie_inverse.runtime.digest import digest
from tweedie_inverse.solving.assembly import History, Part, chains_of, origin_of
from tweedie_inverse.solving.setup import Run
from tweedie_inverse.solving.tree import flattened, rebuilt
from tweedie_inverse.walks.base import DrawnUnknowns, Info, PopulationInfo

_FORMAT = "tweedie-inverse-walk-1"
# Seconds from one writing to the next.
_EVERY = 60.0


class Spent(NamedTuple):
    """What the steps of a part have said and cost so far."""

    populations: tuple[PopulationInfo | None, ...] = ()
    accepted: tuple[Tensor, ...] = ()
    solver_errors: tuple[float, ...] = ()
    denoiser_calls: int = 0
    operator_calls: int = 0
    unknowns: tuple[DrawnUnknowns, ...] = ()

    def after(self, info: Info) -> "Spent":
        """With one more step."""
        accepted = () if info.acceptance is None else (info.acceptance,)
        unknowns = () if info.unknowns is None else (info.unknowns,)
        return self._replace(
            unknowns=(*self.unknowns, *unknowns),
            populations=(*self.populations, info.population),
            accepted=(*self.accepted, *accepted),
            solver_errors=(*self.solver_errors, info.solver_error),
        )

    def paid(self, denoiser_calls: int, operator_calls: int) -> "Spent":
        """With further calls."""
        return self._replace(
            denoiser_calls=self.denoiser_calls + denoiser_calls,
            operator_calls=self.operator_calls + operator_calls,
        )

    def part(self, x: Tensor, last: Info) -> Part:
        """The part whose walkers have arrived at x; `last` is of their last step."""
        doubts = last.doubts
        shares = (0.0, 0.0) if doubts is None else tuple(float(each.mean()) for each in doubts)
        return Part(
            x,
            History.of(self.populations),
            self.denoiser_calls,
            self.operator_calls,
            max(map(float, self.solver_errors)),
            shares,
            torch.stack(self.accepted).mean(0) if self.accepted else None,
            chains_of(self.unknowns),
        )


class Underway(NamedTuple):
    """Walkers `first` to `last` - 1 after step `step`; `state` is the walk's."""

    first: int
    last: int
    step: int
    state: Any
    spent: Spent | None = None  # of `solve`


def of_part(underway: Underway | None, first: int, last: int) -> Underway | None:
    """What is under way, if it is these walkers."""
    same = underway is not None and (underway.first, underway.last) == (first, last)
    return underway if same else None


class Saved(NamedTuple):
    """What is in a file: the parts that have arrived, the one under way, seconds so far."""

    finished: list[Part]
    underway: Underway | None
    seconds: float = 0.0


def fingerprint(run: Run) -> dict[str, Any]:
    """What a call must have in common with the one that wrote a file."""
    origin = asdict(origin_of(run))
    del origin["versions"]  # other versions walk on
    contents = {"y": run.y, "content of the operator": run.operator, "content of noise": run.noise}
    marks = {name: digest(content) for name, content in contents.items()}
    return json.loads(json.dumps({**origin, **marks, "dtype": str(run.y.dtype)}))


def write(path: str | Path, run: Run, saved: Saved) -> None:
    """Write a file in one stroke.

    Raises:
        ValueError: the walkers are spread over processes.
        TypeError: the state of the walk cannot be written.
    """
    _refuse_processes("step.save", run)
    if saved.underway is not None:
        state = run.walk.portable(saved.underway.state)
        saved = saved._replace(underway=saved.underway._replace(state=state))
    tensors, note = flattened(saved)
    notes = {"call": fingerprint(run), "content": note}
    tensor_file.write(path, _FORMAT, tensors, notes)


def _refuse_processes(caller: str, run: Run) -> None:
    if run.walk.communicator.size > 1:
        raise ValueError(f"{caller}: a population that is spread over processes cannot be kept")


def read(path: str | Path, run: Run, caller: str) -> Saved:
    """What a file holds, on the device of the run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file, or of another call.
    """
    tensors, notes = tensor_file.read(path, _FORMAT, caller=caller, need="a walk that was kept")
    refuse_other(notes["call"], fingerprint(run), path, caller)
    here = {name: tensor.to(run.y.device) for name, tensor in tensors.items()}
    try:
        return rebuilt(here, notes["content"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{caller}({str(path)!r}): cannot be read: {error}") from error


def refuse_other(there: dict[str, Any], here: dict[str, Any], path: Any, caller: str) -> None:
    """Raise a `ValueError` where a file's call is another one than this."""
    names = sorted(there.keys() | here.keys())
    other = [name for name in names if there.get(name) != here.get(name)]
    if other:
        told = ", ".join(
            f"{name} ({there.get(name)} there, {here.get(name)} here)" for name in other
        )
        raise ValueError(
            f"{caller}({str(path)!r}): belongs to another call: {told}. Call with the "
            "same arguments to go on, or delete it to begin anew"
        )


class Keeper:
    """Keeps the walk of `solve` in a file, from time to time.

    Args:
        parts: whether the parts that have arrived are kept, too, or only the one under way.

    Raises:
        ValueError: the file cannot be written, or the walkers are spread over processes.
    """

    def __init__(self, path: str | Path, run: Run, *, parts: bool = True):
        self._path, self._run = checked_path("solve", "checkpoint", path), run
        self._keeps_parts = parts
        _refuse_processes("solve(checkpoint=)", run)
        ready(self._path)
        self._latest = self._begin = time.monotonic()

    def found(self) -> Saved:
        """What the file holds; nothing where there is none."""
        is_there = self._path.exists()
        if len(set(map(tuple, self._run.prior.ranks.agree("a checkpoint", [is_there])))) > 1:
            raise ValueError(
                f"solve(checkpoint=): not all processes see {self._path}; name a file on a disk "
                "that they share"
            )
        if not is_there:
            return Saved([], None)
        saved = read(self._path, self._run, "solve: checkpoint")
        if saved.underway is not None and saved.underway.spent is None:
            raise ValueError(
                f"solve(checkpoint=): {self._path} is of a step of ti.iterate; go on with "
                "ti.iterate(resume=)"
            )
        self._begin -= saved.seconds
        return saved

    @property
    def is_due(self) -> bool:
        leads = self._run.prior.ranks.leads  # of processes with one image, which all could write
        return leads and time.monotonic() - self._latest >= _EVERY

    @property
    def has_kept(self) -> bool:
        """Whether the walk took long enough to have a file, which this process writes."""
        return self._run.prior.ranks.leads and self._path.exists()

    def refuse(self, state: Any) -> None:
        """Raise a `TypeError` where the state of the user's own walk cannot be written."""
        flattened(self._run.walk.portable(state))

    def keep(self, saved: Saved) -> None:
        """Write the file; where that fails, say so and let the walk go on."""
        self._latest = time.monotonic()
        finished = saved.finished if self._keeps_parts else []
        saved = Saved(finished, saved.underway, self._latest - self._begin)
        try:
            write(self._path, self._run, saved)
        except OSError as error:
            text = f"solve(checkpoint=): {self._path} could not be written ({error}); it walks on"
            warnings.warn(text, RuntimeWarning, stacklevel=2)

    def done(self) -> None:
        """All samples are there: the file goes."""
        if self._run.prior.ranks.leads:
            self._path.unlink(missing_ok=True)
        self._run.prior.ranks.agree("the end of a checkpoint")  # nobody finds it in the next call
