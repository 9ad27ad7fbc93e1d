"""Python files of the user: run as modules of their own, with a record of what they read.

The file's folder is searched for imports last: helper modules beside the file are found, and files
that happen to be called ``operators.py`` or ``torch.py`` hide nothing.
"""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tweedie_inverse.runtime.checksums import checksum

# Installed packages, the system's own files and caches are no part of a user's program.
_FOREIGN = (
    *(Path(path) for path in sysconfig.get_paths().values()),
    *(Path(path) for path in ("/dev", "/etc", "/proc", "/sys", "/usr")),
    *(Path.home() / name for name in (".cache", ".config")),
    Path(__file__).resolve().parents[1],
)
_DIGITS = 12


class UserFile(NamedTuple):
    """A user's file that was executed.

    Attributes:
        checksums: of the file, and of all that it imported or opened while it ran, as far as
            python can see: not what compiled code opens (HDF5, safetensors, memory maps), what is
            opened later, nor the network.  Names are relative to the file's folder where they can
            be.
    """

    module: ModuleType
    checksums: dict[str, str]

    @property
    def digest(self) -> str:
        """One number for all of them; that of the file, if it reads no other."""
        first, *others = self.checksums.values()
        if not others:
            return first[:_DIGITS]
        text = "\n".join(f"{name} {value}" for name, value in self.checksums.items())
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def execute(place: str, file: str | Path) -> UserFile:
    """Run a user's Python file, once: a second call gives the same module if nothing has changed.

    Args:
        place: what the user wrote, such as ``--operator FILE.py:NAME``, for messages.

    Raises:
        ValueError: no Python file, or it stopped with an error.
    """
    path = Path(file).resolve()
    if path.suffix != ".py":
        raise ValueError(f"{place}: {file} is no Python file by its name; call it {path.stem}.py")
    known = _KNOWN.get(path)
    if known is not None and known.checksums == _checksums(path, [Path(p) for p in _READ[path]]):
        return known
    private = f"_tweedie_inverse_user_{hashlib.sha256(path.read_bytes() + bytes(path)).hexdigest()}"
    spec = importlib.util.spec_from_file_location(private, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module  # dataclasses and pickles look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for good: the file may import later, too
    for name in _HELPERS.pop(path, set()):  # of an earlier version
        sys.modules.pop(name, None)
    before = set(sys.modules)
    try:
        with _noted() as opened:
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        del sys.modules[private]
        raise ValueError(f"{place}: {file} stopped with {type(error).__name__}: {error}") from error
    new = {name for name in set(sys.modules) - before if _is_own(_source(name))}
    # Those that another file of the user has imported before are known by what this one took.
    taken = {getattr(value, "__module__", None) or "" for value in vars(module).values()}
    taken |= {value.__name__ for value in vars(module).values() if isinstance(value, ModuleType)}
    old = {name for names in _HELPERS.values() for name in names} & taken
    _HELPERS[path] = new
    _READ[path] = sorted({*filter(_is_own, opened), *map(_source, new | old)})
    _KNOWN[path] = UserFile(module, _checksums(path, [Path(name) for name in _READ[path]]))
    return _KNOWN[path]


def named(option: str, place: str) -> tuple[Any, UserFile]:
    """The object NAME of ``FILE.py:NAME``, as an option of the command line has it; None if absent.

    Raises:
        ValueError: there is no such file, or it stopped with an error.
    """
    file, _, name = place.rpartition(":")
    if not file or not Path(file).is_file():
        raise ValueError(f"{option} {place}: needs FILE.py:NAME, with a file that exists")
    ran = execute(f"{option} {place}", file)
    return vars(ran.module).get(name), ran


# What was executed, the names of the modules that it brought, and the files that it read.
_KNOWN: dict[Path, UserFile] = {}
_HELPERS: dict[Path, set[str]] = {}
_READ: dict[Path, list[str]] = {}


def _checksums(path: Path, read: list[Path]) -> dict[str, str]:
    """Of the file itself first, then of the others that are still there."""
    found = {path.name: checksum(path)}
    for other in dict.fromkeys(one.resolve() for one in read):
        if other != path and other.is_file():
            inside = other.is_relative_to(path.parent)
            name = other.relative_to(path.parent) if inside else other
            found[name.as_posix()] = checksum(other)
    return found


def _source(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _is_own(name: str) -> bool:
    """Whether a file belongs to the user's program."""
    if not name:
        return False
    path = Path(name).resolve()
    if path.suffix == ".pyc" or any(path.is_relative_to(folder) for folder in _FOREIGN):
        return False
    return path.is_file()


# What is being noted now.  Audit hooks cannot be taken away again, so that there is one for all.
_NOTES: list[set[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _NOTES or event != "open":
        return
    name, mode = arguments[0], arguments[1]
    # What is written is noted, too: the next run may read it.  Logs grow with every run.
    if isinstance(name, (str, os.PathLike)) and "a" not in str(mode):
        _NOTES[-1].add(os.path.abspath(name))


@contextmanager
def _noted() -> Iterator[set[str]]:
    """The files that python opens meanwhile."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    _NOTES.append(set())
    try:
        yield _NOTES[-1]
    finally:
        _NOTES.pop()


_hooked = False
