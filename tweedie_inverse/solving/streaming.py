"""Samples in a file while a solve goes on: a part of the walkers is written when it has arrived.

Memory holds the part that walks.  Beside the file ``samples.h5`` lies the record
``samples.h5.parts``: which parts have arrived, what they cost, and how the file looked when it was
laid out, so that whatever interrupts the solve, the same call goes on after the last part that has
arrived.  The record goes when the file is a posterior.
"""

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.io import hdf5_array
from tweedie_inverse.io.hdf5_array import Place, Rest
from tweedie_inverse.io.kinds import library
from tweedie_inverse.runtime import locks, tensor_file
from tweedie_inverse.runtime.atomic import ready, regular_file
from tweedie_inverse.solving import posterior_file, samples_file
from tweedie_inverse.solving.assembly import Part
from tweedie_inverse.solving.checkpoint import fingerprint, refuse_other
from tweedie_inverse.solving.export import attributes
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.setup import Run
from tweedie_inverse.solving.tree import flattened, rebuilt

_CALLER, _READING = "solve(samples_to=)", "solve: samples_to"
_RECORD = "tweedie-inverse-parts-1"
# What a file holds beside its samples, at most: room that the disk must have as well.
_BESIDE = 2**20


class SampleFile:
    """The file of one call of `solve`; everything that can be wrong with it is found here.

    Attributes:
        posterior: where all samples were there before, all of it; else None.
        seconds: that the parts which have arrived took.

    Raises:
        ValueError: another suffix, a file of another call or kind, too little room on the disk, or
            walkers that cannot be written one by one.
        ImportError: h5py is not installed.
    """

    def __init__(self, path: str | Path, run: Run):
        self.path = regular_file(_named(path))
        self._record = self.path.with_name(f"{self.path.name}.parts")
        library(_CALLER, "hdf5")
        _refuse_populations(run)
        self._run, self._call = run, fingerprint(run)
        self._lock: IO[bytes] | None = None
        self._shape = (run.num_samples, *run.prior.shape)
        self._shape = self._shape if run.single else (len(run.y), *self._shape)
        self._parts: list[Part] = []
        self._sizes: list[int] = []
        self._place: Place | None = None
        self._rest = Rest(b"", b"")
        self.posterior: Posterior | None = None
        self.seconds = 0.0
        ready(self.path, self._record)
        self._find()

    def _find(self) -> None:
        """Take up what is there, or see that there is room for the samples."""
        exists = self.path.exists() and self.path.stat().st_size > 0
        if exists and self._record.exists():
            self._take_up()
        elif exists:
            call, is_complete = samples_file.call_of(self.path)
            refuse_other(call, self._call, self.path, _READING)
            if not is_complete:
                raise ValueError(
                    f"{_CALLER}: {self.path} has not all samples, and the record {self._record} "
                    "that says which is missing; put it back, or delete the file to begin anew"
                )
            self.posterior = Posterior.load(self.path)
        if self._place is None and self.posterior is None:
            self._refuse_little_room()

    def _take_up(self) -> None:
        """The parts that have arrived."""
        need = "the record of a file of samples"
        tensors, notes = tensor_file.read(self._record, _RECORD, caller=_READING, need=need)
        refuse_other(notes["call"], self._call, self.path, _READING)
        if notes["place"] is None:  # the file was being made
            return
        offset, shape, dtype = notes["place"]
        place = Place(offset, tuple(shape), dtype)
        if self.path.stat().st_size < place.offset + place.nbytes:
            raise ValueError(
                f"{_CALLER}: {self.path} is not the file that {self._record} is of; put that "
                "back, or delete the record to begin anew"
            )
        head, tail = (tensors.pop(name).numpy().tobytes() for name in ("head", "tail"))
        here = {name: tensor.to(self._run.y.device) for name, tensor in tensors.items()}
        self._parts = rebuilt(here, notes["parts"])
        self._sizes, self.seconds = notes["sizes"], notes["seconds"]
        self._place, self._rest = place, Rest(head, tail)

    def _refuse_little_room(self) -> None:
        size = torch.Size(self._shape).numel() * self._run.y.element_size()
        free = shutil.disk_usage(self.path.parent).free
        if self.path.exists():
            free += self.path.stat().st_size
        if size + _BESIDE > free:
            raise ValueError(
                f"{_CALLER}: the samples {self._shape} take {size / 1e9:.3g} GB, and "
                f"{self.path.parent} has {free / 1e9:.3g} GB free; free some, take fewer samples, "
                "or name a file on another disk"
            )

    def begin(self) -> None:
        """Make the file, or the one that is there as it was; no other process may write to it.

        Raises:
            ValueError: another process does.
        """
        self._lock = open(self.path, "ab")  # noqa: SIM115  (it is locked until it is closed)
        if locks.take(self._lock) is False:
            self._lock.close()
            raise ValueError(f"{_CALLER}: another solve writes to {self.path}; name another file")
        if self._place is not None:
            self._rest.restore(self.path, self._place)
            return
        self._write_record()
        self._place = samples_file.laid_out(self.path, self._shape, self._run.y.dtype, self._call)
        self._rest = Rest.of(self.path, self._place)
        self._write_record()

    def end(self) -> None:
        """Let others have the file."""
        if self._lock is not None:
            self._lock.close()

    @property
    def arrived(self) -> list[Part]:
        """The parts that are in the file, their walkers read when they are used."""
        ends = torch.tensor(self._sizes, dtype=torch.long).cumsum(0).tolist()
        return [
            part._replace(x=self.walkers[last - size : last])
            for part, size, last in zip(self._parts, self._sizes, ends, strict=True)
        ]

    @property
    def walkers(self) -> Tensor:
        """``(walkers, *shape)``, those that have arrived, on the CPU; read when they are used."""
        return self._everyone[: sum(self._sizes)]

    @cached_property
    def _everyone(self) -> Tensor:
        assert self._place is not None
        everyone = hdf5_array.mapped(self.path, self._place)
        return everyone.reshape(-1, *self._run.prior.shape)

    def take(self, part: Part, seconds: float) -> Part:
        """Write a part that has arrived; the same with its walkers in the file."""
        assert self._place is not None
        image = torch.Size(self._run.prior.shape).numel()
        hdf5_array.write(self.path, self._place, sum(self._sizes) * image, part.x)
        self._parts.append(part._replace(x=part.x.new_empty(0)))
        self._sizes.append(len(part.x))
        self.seconds = seconds
        self._write_record()
        return self.arrived[-1]

    def _write_record(self) -> None:
        tensors, note = flattened(self._parts)
        for name, content in self._rest._asdict().items():
            tensors[name] = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[
                : len(content)
            ]
        notes: Mapping[str, Any] = {
            "call": self._call,
            "parts": note,
            "sizes": self._sizes,
            "place": self._place,
            "seconds": self.seconds,
        }
        tensor_file.write(self._record, _RECORD, tensors, notes)

    def completed(self, posterior: Posterior) -> Posterior:
        """Add everything else to the file, which is the posterior's then."""
        posterior = posterior.to("cpu")
        tensors, notes = posterior_file.content(posterior)
        told = attributes(posterior.diagnostics, posterior.stats, posterior.origin)
        samples_file.complete(self.path, tensors, notes, told)
        self._record.unlink(missing_ok=True)
        return posterior


def _named(path: str | Path) -> Path:
    found = checked_path("solve", "samples_to", path)
    if not samples_file.is_named_so(found):
        raise ValueError(
            f"solve(samples_to={str(path)!r}): samples are streamed to HDF5, and the name must say "
            f"so: {str(found.with_suffix(samples_file.SUFFIXES[0]))!r}"
        )
    return found


def _refuse_populations(run: Run) -> None:
    if run.walk.is_population:
        raise ValueError(
            f"{_CALLER}: the {run.walk.name} walk chooses its samples among all walkers when they "
            "have arrived, so that memory must hold them; leave samples_to= out, or take "
            "method='decoupled'"
        )
    if run.prior.ranks.size > 1:
        raise ValueError(
            f"{_CALLER}: one image over {run.prior.ranks.size} processes has its samples in all of "
            "them; save the posterior on the first one, prior.ranks.leads"
        )
