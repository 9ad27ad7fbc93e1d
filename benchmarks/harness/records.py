"""The results store: one file for each finished unit, written whole or not at all.

A unit is one measurement and one method; its name is a hash of everything that fixes its result.
A file that exists is finished, unless it says that its unit failed; so a run that was killed goes
on where it stopped, what failed is tried again, and several processes may write into one folder.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tweedie_inverse import __version__
from tweedie_inverse.benchmarks.harness.pictures import Pictures
from tweedie_inverse.runtime.atomic import ready_folder, replace


@dataclass(frozen=True)
class Unit:
    """Everything that a result depends on.

    Attributes:
        problem: the operator with its noise and the prior, in words.
        image: number of the test image.
        settings: all settings of the method.
        samples: how many posterior samples were asked for.
        seed: the seed of the run.
        weights: the checksum of the prior.
    """

    suite: str
    task: str
    problem: str
    image: int
    method: str
    settings: dict[str, Any]
    samples: int
    seed: int
    weights: str

    @property
    def name(self) -> str:
        """A hash of all the fields."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


class Store:
    """A folder of records.

    Args:
        keep_diverged: whether units whose numbers became infinite count as finished; other failures
            never do.

    Attributes:
        failed: how many units were written that have failed.
    """

    def __init__(self, folder: str | Path, *, keep_diverged: bool = False):
        self.folder, self.failed = Path(folder) / "units", 0
        self._keep_diverged = keep_diverged

    def ready(self) -> None:
        """Make the folder and try to write in it, before any work.

        Raises:
            ValueError: it cannot be written to.
        """
        ready_folder(self.folder)

    def is_there(self, unit: Unit) -> bool:
        """Whether the unit has an undamaged record, of a failure too."""
        return self._found(unit) is not None

    def is_finished(self, unit: Unit) -> bool:
        """Whether the unit has a record, and not of a failure that is to be tried again."""
        found = self._found(unit)
        if found is None:
            return False
        return "failed" not in found or (self._keep_diverged and found.get("diverged", False))

    def _found(self, unit: Unit) -> dict[str, Any] | None:
        try:
            found = json.loads(self._path(unit).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def read(self, unit: Unit) -> dict[str, Any]:
        return json.loads(self._path(unit).read_text())

    def write(
        self,
        unit: Unit,
        outcome: dict[str, Any],
        samples: Tensor | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        """Write a unit's files, the record last: it marks the unit as finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.failed += "failed" in outcome
        path = self._path(unit)
        if samples is not None:
            content = save({"samples": samples.contiguous()})
            replace(path.with_suffix(".safetensors"), content)
        if pictures is not None:
            replace(path.with_suffix(".pictures"), save(pictures._asdict()))
        record = {"unit": asdict(unit), **outcome}
        replace(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.name}.json"


def read(places: Iterable[str | Path]) -> list[dict[str, Any]]:
    """All records of folders of results and of files of records, each unit once, in a fixed order.

    Raises:
        ValueError: a record is damaged, or there is no such folder or file.
    """
    found: dict[str, dict[str, Any]] = {}
    for place in map(Path, places):
        if place.is_file():
            found |= {Unit(**record["unit"]).name: record for record in _lines(place)}
        elif not place.is_dir():
            raise ValueError(f"{place}: there is no such folder of results or file of records")
        else:
            paths = sorted((place / "units").glob("*.json"))
            found |= {path.stem: _record(path) for path in paths}
    return [found[name] for name in sorted(found)]


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file with one on each line, as `in_lines` makes it."""
    try:
        made = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for record in made:
            Unit(**record["unit"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: is no file of records, one on each line ({error}); benchmarks export writes "
            "them as .jsonl"
        ) from error
    return made


def in_lines(found: Iterable[dict[str, Any]]) -> str:
    """Records as text, one on each line."""
    return "".join(
        json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n" for record in found
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged; delete it, or run its suite again") from error


def read_pictures(folders: Iterable[str | Path]) -> dict[str, Pictures]:
    """Pictures of any number of folders, by the names of their units."""
    return {
        path.stem: Pictures(**load(path.read_bytes()))
        for folder in folders
        for path in sorted((Path(folder) / "units").glob("*.pictures"))
    }


def provenance(device: str) -> dict[str, str]:
    """The machine, the versions and the commit; the result depends on none of them."""
    if device.startswith("cuda"):
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
    return {
        "commit": revision(Path(__file__)),
        "machine": machine,
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }


def revision(file: Path) -> str:
    """The commit of the checkout that a file of the package is tracked in, else the version.

    An installed file may lie in a folder of somebody else's repository, whose commit says nothing.
    """
    file = file.resolve()
    describe = ("describe", "--always", "--dirty", "--abbrev=12")
    if _git(file, "ls-files", "--error-unmatch", file.name) and (commit := _git(file, *describe)):
        return commit
    return f"tweedie-inverse {__version__}"


def _git(file: Path, *command: str) -> str:
    """What git says in the file's folder; nothing where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", *command], cwd=file.parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
