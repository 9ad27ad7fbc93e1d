"""Many measurements in files, one after the other: posteriors of a whole folder.

Each measurement has a result file, which is written as a whole and then left alone, so that a
killed run goes on where it stopped.  A record beside it holds the checksums of the measurement and
of the result: one that is replaced or damaged is solved again.  Several processes share the files
among them (`distributed`).  A file that cannot be solved does not stop the others: it is listed at
the end, and its reason is written beside the results.
"""

import glob
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.app.endings import in_one_line
from tweedie_inverse.app.exports import RESULT
from tweedie_inverse.app.measurements import refuse_what_is_no_file
from tweedie_inverse.io.kinds import known_suffix, stem
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.runtime.atomic import ready_folder, regular_file, replace
from tweedie_inverse.runtime.checksums import checksum
from tweedie_inverse.solving.posterior import Posterior
from tweedie_inverse.solving.posterior_file import is_consistent
from tweedie_inverse.solving.samples_file import is_named_so

_SETTINGS = "settings.json"
# Results, and walks on the way to one.
_KEPT = (".safetensors", ".walk")


class Item(NamedTuple):
    """A measurement's file, and the file of its posterior."""

    measurement: Path
    result: Path

    @property
    def error(self) -> Path:
        """The file that says why there is no result."""
        return self.result.with_suffix(".error.txt")

    @property
    def picture(self) -> Path:
        return self.result.with_suffix(".png")

    @property
    def record(self) -> Path:
        """The file with the checksums of measurement and result; written last."""
        return self.result.with_suffix(".record.json")

    @property
    def walk(self) -> Path:
        """The file of a walk that is under way."""
        return walk_file(self.result)

    def forget_old_walk(self) -> None:
        """Delete the file of a walk that began before the measurement was replaced."""
        if self.walk.exists() and self.walk.stat().st_mtime < self.measurement.stat().st_mtime:
            self.walk.unlink(missing_ok=True)

    @property
    def is_finished(self) -> bool:
        """Whether the posterior is there, undamaged, of this measurement and not older than it."""
        try:
            if self.result.stat().st_mtime < self.measurement.stat().st_mtime:
                return False
            return json.loads(self.record.read_text()) == self.checksums()
        except (OSError, ValueError):
            return False

    def checksums(self) -> dict[str, str]:
        """Of the measurement and of the result, which are there."""
        return {"measurement": checksum(self.measurement), "result": checksum(self.result)}


def walk_file(result: Path) -> Path:
    """Where a long walk is kept while it is under way, beside its result."""
    return result.with_suffix(".walk")


def is_bulk(given: Sequence[str]) -> bool:
    """Whether these name several files: a folder, a pattern, or more than one."""
    first = Path(given[0])
    return len(given) > 1 or first.is_dir() or (not first.exists() and glob.has_magic(given[0]))


def find(given: Sequence[str], out: str | Path) -> list[Item]:
    """Every readable file of folders, patterns and names, by name; results go to folder `out`.

    Of a folder those with the suffix of a kind that is read, DICOM slices one by one, and none that
    an earlier run has written there.

    Raises:
        ValueError: there is no file, or two would have the same result.
    """
    files: set[Path] = set()
    for name in given:
        if Path(name).is_dir():
            files |= _measurements(Path(name))
        else:
            found = [name] if Path(name).exists() else glob.glob(name, recursive=True)
            if not found:
                raise ValueError(f"solve: there is no file {name}")
            files |= {Path(path) for path in found}
    if not files:
        raise ValueError(f"solve: no file of a kind that is read in {', '.join(given)}")
    items = [Item(path, Path(out) / f"{stem(path)}.safetensors") for path in sorted(files)]
    by_result: dict[Path, Path] = {}
    for item in items:
        other = by_result.setdefault(item.result, item.measurement)
        if other != item.measurement:
            raise ValueError(
                f"solve: {other} and {item.measurement} would both be written to {item.result}; "
                "solve their folders one by one, or one kind of them, such as 'folder/*.npy'"
            )
    return items


def _measurements(folder: Path) -> set[Path]:
    """Files of a folder that may be measurements, results of earlier runs left out."""
    results = {path.stem for path in folder.glob("*.safetensors") if _is_result(path)}
    found = set()
    for path in folder.iterdir():
        if known_suffix(path) is None or path.name.startswith("."):
            continue
        written = RESULT.fullmatch(stem(path))
        is_picture = path.suffix == ".png" and path.stem in results
        if not is_picture and not (written and written[1] in results):
            found.add(path)
    return found


def _is_result(path: Path) -> bool:
    try:
        is_consistent(path)
    except (OSError, ValueError):
        return False
    return True


def seed_of(item: Item, seed: int) -> int:
    """The seed of one file, from the run's seed and the file's name, so that no two share noise."""
    return int(
        generator(("file", seed, zlib.crc32(item.measurement.stem.encode()))).integers(2**62)
    )


def settle(out: str | Path, settings: Mapping[str, object]) -> None:
    """Note what a folder's results are made with; nothing is held against a folder without any.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    path, text = Path(out) / _SETTINGS, json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if path.is_file() and any(one.suffix in _KEPT for one in Path(out).iterdir()):
        there, wanted = _settings_in(path), json.loads(text)
        names = sorted(there.keys() | wanted.keys())
        other = [name for name in names if there.get(name) != wanted.get(name)]
        if other:
            pairs = ", ".join(
                f"{name}: {there.get(name)} there, {wanted.get(name)}" for name in other
            )
            raise ValueError(
                f"solve: {out} holds results of other settings ({pairs} now). Use the same to go "
                "on, or another folder"
            )
    replace(path, text.encode())


def _settings_in(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"solve: {path} is damaged, so that nothing says what the results beside it are made "
            "with; use another folder"
        ) from error
    return found if isinstance(found, dict) else {}


def separate(written: Sequence[Path], read: Sequence[str | Path]) -> None:
    """Check that no file that is read is written over, by whatever name.

    Raises:
        ValueError: one is, or two of the written ones are the same.
    """
    known = {_identity(path): path for path in map(Path, read) if path.exists()}
    for path, count in Counter(map(os.path.realpath, written)).items():
        if count > 1:
            raise ValueError(f"solve: picture and samples would both be written to {path}")
    for one in written:
        other = known.get(_identity(one)) if one.exists() else None
        if other is not None:
            raise ValueError(
                f"solve: {one} would be written over, but it is the file {other}, which is read; "
                "choose another --out"
            )


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def write(posterior: Posterior, out: Path) -> None:
    """The samples to a file, and the picture beside it; each as a whole, the samples last."""
    drawn = io.BytesIO()
    posterior.plot().savefig(drawn, dpi=110, format="png")
    replace(out.with_suffix(".png"), drawn.getvalue())
    if not is_named_so(out):  # else its samples are there already
        posterior.save(out)


def solve_files(
    items: Sequence[Item],
    one: Callable[[Item], Posterior],
    *,
    complete: Callable[[Item], None] = lambda item: None,
    place: Place = Place(0, 1),  # noqa: B008  (a NamedTuple does not change)
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Finish this process's share of the files; one line for each that could not be solved.

    Args:
        items: all files, in the same order in every process.
        one: the posterior of one file; whatever goes wrong is noted for this file, and the others
            go on.
        complete: called for a file whose posterior is there, to add what is missing beside it.
    """
    mine, failed = shard(items, place), []
    for folder in {item.result.parent for item in mine}:
        ready_folder(folder)
    for number, item in enumerate(mine, 1):
        progress = f"{number}/{len(mine)} {item.measurement.name}"
        try:
            if item.is_finished:
                complete(item)
                tell(f"{progress}: already there")
                continue
            refuse_what_is_no_file(item.measurement)
            for path in (item.result, item.picture, item.record):
                regular_file(path)
            before = checksum(item.measurement)
            posterior = one(item)
            write(posterior, item.result)
            record = {**item.checksums(), "measurement": before}
            replace(item.record, json.dumps(record).encode())  # it says that all is there
            item.walk.unlink(missing_ok=True)  # last: until here it is all there is
        except Exception as error:
            reason = in_one_line(error).removeprefix(f"{item.measurement}: ")
            failed.append(f"{item.measurement}: {reason}")
            _note(item.error, f"{failed[-1]}\n")
            tell(f"{progress}: failed")
            continue
        item.error.unlink(missing_ok=True)
        tell(f"{progress}: {posterior.stats.seconds:.1f} s, {posterior.diagnostics.verdict}")
    return failed


def _note(path: Path, text: str) -> None:
    """Write why a file failed, unless the disk is full or the folder gone, which costs no other."""
    with suppress(OSError, ValueError):
        replace(path, text.encode())
