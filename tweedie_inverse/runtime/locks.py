"""Locks on files, which the system lets go when their process ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def take(file: IO[Any], *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed, against other threads, processes and hosts.

    Returns:
        Whether it is locked now; False if another has it, None where there are no such locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[None]:
    """Be the only one who does `what` in a folder; without effect where there are no locks.

    Raises:
        ValueError: another process, or another part of this one, is at it.
    """
    with open(folder / ".lock", "ab") as file:
        if take(file) is False:
            raise ValueError(
                f"{what}: another run is at work in {folder}, and two would overwrite each other's "
                "files. Wait for it, stop it, or use another folder"
            )
        yield
