"""Other people's readers, held to bounds: memory is counted first, every error is one sentence."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from tweedie_inverse.io.kinds import ready

# Not astropy's: it must make its logger itself, and cannot be imported if another one has.
_LOGGERS = ("tifffile", "pydicom", "nibabel.global")
_LOSSES = ("invalid page offset", "corrupted file", "missing data")
_SPOILT = "damaged, cut off, or not such a file"


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Run a reader; what it raises becomes a `ValueError` of one line that names the file.

    Its warnings are dropped, unless they say that the file is cut off.

    Raises:
        UnreadableError: whatever the reader raised, its own kind of error included.
    """
    ready(kind, "io.read")  # first, because a library makes its log when it is imported
    with warnings.catch_warnings(), _Log() as log:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(truncated|corrupt).*")
        try:
            yield
            log.refuse()
        except Refused as error:
            raise UnreadableError(f"io.read: {path}: {error}") from None
        except (ImportError, UnreadableError):
            raise
        except Exception as error:  # of any library, of any kind: they are the file's
            said = " ".join(str(error).split())[:200] or "no reason given"
            raise UnreadableError(
                f"io.read: {path}: {_SPOILT} ({kind}: {type(error).__name__}: {said})"
            ) from error


class _Log(logging.Handler):
    """What readers would write to the terminal; tifffile says there what it has lost."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> "_Log":
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        self._before = [(one, one.handlers, one.propagate) for one in loggers]
        for one in loggers:
            one.handlers, one.propagate = [self], False
        return self

    def __exit__(self, *_: object) -> None:
        for one, handlers, propagate in self._before:
            one.handlers, one.propagate = handlers, propagate

    def refuse(self) -> None:
        for line in self.said:
            if any(word in line for word in _LOSSES):
                raise Refused(f"damaged: {' '.join(line.split())[:200]}")


class UnreadableError(ValueError):
    """A file that cannot be read, with its name and the reason."""


class Refused(Exception):  # noqa: N818  (not an error by itself: `reading` makes one of it)
    """What a reader here says of a file; `reading` puts the file's name before it."""


def refuse_size(shape: Sequence[int], item: int) -> None:
    """Raise where an array of a file is more than memory holds, before any of it is made.

    Args:
        item: bytes of one number in the file.
    """
    sizes = [int(size) for size in shape]
    if any(size < 1 for size in sizes):
        raise Refused(f"holds no numbers: its shape is {tuple(sizes)}")
    # Once as it is in the file, and once or twice as floating-point numbers.
    need, there = prod(sizes) * (item + 12), _memory()
    if need > there:
        raise Refused(
            f"claims an array of shape {tuple(sizes)}, {prod(sizes):.4g} numbers; reading it needs "
            f"{need / 2**30:.4g} GiB of memory, and {there / 2**30:.4g} are free. Read a part of "
            "it with the library of its format and np.save that"
        )


def _memory() -> int:
    """Free memory in bytes, as far as the system says; else 8 GiB."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**33


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Names for a message, not endlessly many."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
