"""Many measurements in files, one after the other: posteriors of a whole folder.

Each measurement has a result file, which is written as a whole and then left alone, so that a
killed run goes on where it stopped.  Several processes share the files among them (`distributed`).
A file that cannot be solved does not stop the others: it is listed at the end, and its reason is
written beside the results.
"""

import glob
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tweedie_inverse.app.distributed import Place, shard
from tweedie_inverse.numerics.random import generator
from tweedie_inverse.runtime.atomic import replace
from tweedie_inverse.solving.posterior import Posterior

_SETTINGS = "settings.json"


class Item(NamedTuple):
    """A measurement's file, and the file of its posterior."""

    measurement: Path
    result: Path

    @property
    def error(self) -> Path:
        """The file that says why there is no result."""
        return self.result.with_suffix(".error.txt")

    @property
    def is_finished(self) -> bool:
        """Whether the posterior is there and not older than its measurement."""
        if not self.result.is_file():
            return False
        return self.result.stat().st_mtime >= self.measurement.stat().st_mtime


def is_bulk(given: Sequence[str]) -> bool:
    """Whether these name several files: a folder, a pattern, or more than one."""
    first = Path(given[0])
    return len(given) > 1 or first.is_dir() or (not first.exists() and glob.has_magic(given[0]))


def find(given: Sequence[str], out: str | Path) -> list[Item]:
    """Every ``.npy`` file of folders, patterns and names, by name; results go to folder `out`.

    Raises:
        ValueError: there is no file, or two would have the same result.
    """
    files: set[Path] = set()
    for name in given:
        if Path(name).is_dir():
            files |= set(Path(name).glob("*.npy"))
        else:
            found = [name] if Path(name).exists() else glob.glob(name, recursive=True)
            if not found:
                raise ValueError(f"solve: there is no file {name}")
            files |= {Path(path) for path in found}
    if not files:
        raise ValueError(f"solve: no .npy file in {', '.join(given)}")
    items = [Item(path, Path(out) / f"{path.stem}.safetensors") for path in sorted(files)]
    by_result: dict[Path, Path] = {}
    for item in items:
        other = by_result.setdefault(item.result, item.measurement)
        if other != item.measurement:
            raise ValueError(
                f"solve: {other} and {item.measurement} would both be written to {item.result}; "
                "solve their folders one by one"
            )
    return items


def seed_of(item: Item, seed: int) -> int:
    """The seed of one file, from the run's seed and the file's name, so that no two share noise."""
    return int(
        generator(("file", seed, zlib.crc32(item.measurement.stem.encode()))).integers(2**62)
    )


def settle(out: str | Path, settings: Mapping[str, object]) -> None:
    """Note what a folder's results are made with.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    path, text = Path(out) / _SETTINGS, json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if path.is_file():
        there = json.loads(path.read_text())
        wanted = json.loads(text)
        other = [name for name in wanted if there.get(name) != wanted[name]]
        if other:
            pairs = ", ".join(f"{name}: {there.get(name)} there, {wanted[name]}" for name in other)
            raise ValueError(
                f"solve: {out} holds results of other settings ({pairs} now). Use the same to go "
                "on, or another folder"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, text.encode())


def checksum(path: str | Path) -> str:
    """A number that changes with the content of a file."""
    return f"{zlib.crc32(Path(path).read_bytes()):08x}"


def solve_files(
    items: Sequence[Item],
    one: Callable[[Item], Posterior],
    *,
    place: Place = Place(0, 1),  # noqa: B008  (a NamedTuple does not change)
    tell: Callable[[str], None] = print,
) -> list[str]:
    """Finish this process's share of the files; one line for each that could not be solved.

    Args:
        items: all files, in the same order in every process.
        one: the posterior of one file; an error is noted for this file, and the others go on.
    """
    mine, failed = shard(items, place), []
    for number, item in enumerate(mine, 1):
        progress = f"{number}/{len(mine)} {item.measurement.name}"
        if item.is_finished:
            tell(f"{progress}: already there")
            continue
        try:
            posterior = one(item)
        except (ValueError, TypeError, OSError, EOFError, ArithmeticError) as error:
            failed.append(f"{item.measurement}: {error}")
            item.error.parent.mkdir(parents=True, exist_ok=True)
            replace(item.error, f"{failed[-1]}\n".encode())
            tell(f"{progress}: failed")
            continue
        item.error.unlink(missing_ok=True)
        posterior.plot(item.result.with_suffix(".png"))
        posterior.save(item.result)  # last: it says that all is there
        chi_square = float(posterior.diagnostics.residual_chi_square.mean())
        tell(f"{progress}: {posterior.stats.seconds:.1f} s, residual chi-square {chi_square:.3f}")
    return failed
