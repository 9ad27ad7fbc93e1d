"""Files that are there as a whole or not at all, so that a killed run leaves none half written.

A temporary is locked as long as its writer lives, so that the next run can tell those that a
killed one has left.
"""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from tweedie_inverse.runtime import locks

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")
# Where files cannot be locked, temporaries of this age are taken for left over.
_OLD = 24 * 3600.0


def replace(path: str | Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file in one stroke: its old content, or none, until all of the new one is there.

    The content may come in pieces, so that memory need not hold all of it.

    Any number of threads, processes and hosts may write the same file; the last one stays.  A
    link stays, and the file that it leads to is written.

    Raises:
        ValueError: there is something else than a regular file.
    """
    target = regular_file(Path(path))
    pieces = [content] if isinstance(content, bytes) else content
    while not _replaced(target, pieces):
        pass


def _replaced(target: Path, pieces: Iterable[bytes | memoryview]) -> bool:
    """Whether it was written; False if another run took the new temporary for a left-over one."""
    # Not by `tempfile`, whose files only their owner may read: this one has ordinary permissions.
    temporary = target.with_name(f".{uuid4().hex}.part")
    try:
        with open(temporary, "xb") as file:
            locked = locks.take(file, wait=True)
            if locked and os.fstat(file.fileno()).st_nlink == 0:
                return False
            for piece in pieces:
                file.write(piece)
            file.flush()
            if locked:  # until it has its name
                os.replace(temporary, target)
        if not locked:
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def sweep(folder: str | Path) -> None:
    """Delete the temporaries that killed runs have left in a folder, and nothing else."""
    for path in Path(folder).glob(".*.part"):
        if not _TEMPORARY.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            with open(path, "r+b") as file:
                locked = locks.take(file)
                if locked or (locked is None and time.time() - path.stat().st_mtime > _OLD):
                    path.unlink(missing_ok=True)
        except OSError:  # gone meanwhile, or somebody else's
            continue


def ready_folder(folder: str | Path) -> None:
    """Make a folder, sweep it, and try to write in it: before the work, not after it.

    Raises:
        ValueError: files cannot be written there.
    """
    trial = Path(folder) / f".{uuid4().hex}.part"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        sweep(folder)
        trial.touch()
        trial.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(
            f"no file can be written in {folder} ({error.strerror or error}); choose another folder"
        ) from error


def ready(*paths: str | Path) -> None:
    """`ready_folder` for the folders of files that will be written by `replace`.

    Raises:
        ValueError: one of them cannot be written.
    """
    for target in [regular_file(Path(path)) for path in paths]:
        ready_folder(target.parent)


def regular_file(path: Path) -> Path:
    """The file that a path leads to, links followed; it need not be there.

    Raises:
        ValueError: there is something else than a regular file.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink() or (target.exists() and not target.is_file()):
        kind = "a folder" if target.is_dir() else "a device, a pipe or a link that leads nowhere"
        raise ValueError(f"{path} is {kind}, not a file; name a file to write")
    return target
