"""A problem in one file: tables of TOML to the arguments of `solve`, and the other way round.

Every key is an option of the command line under its own name, so that both mean the same and are
checked at one place; options of the command line come after those of the file and override them.
Relative paths are relative to the file.
"""

import argparse
import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tweedie_inverse.app.catalogue import noises
from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE
from tweedie_inverse.app.catalogue.suggestions import nearest
from tweedie_inverse.runtime.atomic import replace

SUFFIX = ".toml"


@dataclass(frozen=True)
class Key:
    """A key of a table: its name, the option it is, and whether it may or must name files."""

    name: str
    dest: str
    is_file: bool = False
    is_flag: bool = False
    is_always_file: bool = False


def _keys(*names: str, **settings: bool) -> tuple[Key, ...]:
    return tuple(Key(name, name.replace("-", "_"), **settings) for name in names)


_OPERATOR = tuple(
    Key(row.name, row.dest, row.kind.is_file, row.kind.is_flag) for row in (*OPTIONS.values(), SIZE)
)
# The tables of a file; [noise] is apart, because its keys follow the model.
TABLES: dict[str, tuple[Key, ...]] = {
    "measurement": (Key("files", "measurement", is_always_file=True), *_keys("key")),
    "operator": (Key("name", "operator", is_file=True), *_OPERATOR),
    "prior": (
        Key("name", "prior", is_file=True),
        *_keys("format", "revision", "sha256", "weights", "value-range"),
        *_keys("tiled", is_flag=True),
    ),
    "solve": (
        *_keys("method", "samples", "steps", "seed", "device", "batch-size"),
        *_keys("strict", is_flag=True),
    ),
    "output": (
        *_keys("out", "like", is_always_file=True),
        *_keys("write"),
        Key("as", "suffix"),
    ),
}
_OPTION_OF = {"operator": "operator", "prior": "prior", "suffix": "as"}


def read(path: str | Path) -> dict[str, dict[str, Any]]:
    """The tables of a problem file, checked for unknown names.

    Raises:
        ValueError: it cannot be read, or has a table or key that means nothing.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such problem file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no TOML: {error}") from error
    names = (*TABLES, "noise")
    for name, table in tables.items():
        if name not in names:
            raise ValueError(
                f"{path}: [{name}] means nothing; the tables are {', '.join(names)}"
                f"{nearest(name, names)}"
            )
        if not isinstance(table, dict):
            raise ValueError(f"{path}: {name} must be a table, [{name}]")
        known = [key.name for key in TABLES.get(name, ())]
        for key, value in table.items():
            if name != "noise" and key.replace("_", "-") not in known:
                hint = nearest(key.replace("_", "-"), known) or f"; [{name}] takes {_few(known)}"
                raise ValueError(f"{path}: [{name}] {key}: means nothing{hint}")
            if isinstance(value, dict):
                raise ValueError(f"{path}: [{name}] {key}: needs a value, not a table")
    return {
        name: {key.replace("_", "-"): value for key, value in table.items()}
        for name, table in tables.items()
    }


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 12 else "the options that --help lists"


def arguments(path: str | Path, given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The options of a file, and its measurements, as they would be written on the command line.

    Args:
        given: what the command line says itself, with None where it says nothing: another
            operator, or another way to say the same, replaces what the file says of it.

    Raises:
        ValueError: as of `read`.
    """
    tables, folder = read(path), Path(path).parent
    found: list[str] = []
    operator = tables.get("operator", {})
    tables["operator"] = _not_replaced(operator, given)
    for name, keys in TABLES.items():
        for key in keys:
            value = tables.get(name, {}).get(key.name)
            if value is None or key.dest == "measurement":
                continue
            option = f"--{_OPTION_OF.get(key.dest, key.name)}"
            if key.is_flag:
                if not isinstance(value, bool):
                    raise ValueError(f"{path}: [{name}] {key.name}: needs true or false")
                found += [option] if value else []
            elif key.name == "write":
                found += [option, *map(str, value if isinstance(value, list) else [value])]
            else:
                text = _text(path, name, key, value)
                if key.is_file or key.is_always_file:
                    text = located(folder, text, must=key.is_always_file)
                found.append(f"{option}={text}")
    if tables.get("noise"):
        try:
            text = noises.text_of(
                {k: _path_of_std(folder, k, v) for k, v in tables["noise"].items()}
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        found.append(f"--noise={text}")
    files = tables.get("measurement", {}).get("files", [])
    files = files if isinstance(files, list) else [files]
    return found, [located(folder, str(file), must=True) for file in files]


def _not_replaced(operator: Mapping[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The table [operator] without what the command line says in another way."""
    if given.operator is not None and given.operator != operator.get("name"):
        return {}
    left = dict(operator)
    instrument = INSTRUMENTS.get(str(operator.get("name")))
    if instrument is None:
        return left
    here = {row.name for row in OPTIONS.values() if getattr(given, row.dest) is not None}
    for group in instrument.needs:
        if here.intersection(group):
            left = {name: value for name, value in left.items() if name not in group}
    for option, others in instrument.only_with.items():
        if option in left and not {*left, *here}.intersection(others):
            del left[option]
    return left


def _text(path: str | Path, table: str, key: Key, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | list):
        raise ValueError(f"{path}: [{table}] {key.name}: needs a number, a text or a list of them")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _path_of_std(folder: Path, key: str, value: Any) -> Any:
    return located(folder, value) if key == "std" and isinstance(value, str) else value


def located(folder: Path, text: str, must: bool = False) -> str:
    """A path of a file in `folder`, ``FILE:REST`` included; what is no path stays as it is."""
    if os.path.isabs(text):
        return text
    there = _shortened(os.path.join(folder, text))
    head = os.path.join(folder, text.rpartition(":")[0] or text)
    return there if must or os.path.exists(there) or os.path.isfile(head) else text


_HEADER = "# Written by tweedie-inverse. To solve it: tweedie-inverse solve {name}\n"


def _shortened(path: str) -> str:
    """``a/../b`` as ``b``, where no link makes them differ."""
    short = os.path.normpath(path)
    same = not os.path.exists(path) or (os.path.exists(short) and os.path.samefile(path, short))
    return short + ("/" if path.endswith("/") else "") if same else path


def write(path: Path, options: argparse.Namespace, out: str | None = None) -> None:
    """Write the problem file of the options, unless it is the one that they came from.

    Args:
        out: where the results are, if the options leave it open.
    """
    if not _is_the_one(path, options):
        asked = argparse.Namespace(**{**vars(options), "out": out or options.out})
        text = _HEADER.format(name=path.name) + saved(asked, path)
        replace(path, text.encode())


def refuse_other(path: Path, options: argparse.Namespace) -> None:
    """Raise a `ValueError` where somebody's own file would be written over."""
    if not path.is_file() or _is_the_one(path, options):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if file.readline() != _HEADER.format(name=path.name):
            raise ValueError(
                f"solve: {path} would be written over, and was not written by solve; choose "
                "another --out, or rename it"
            )


def _is_the_one(path: Path, options: argparse.Namespace) -> bool:
    return options.problem is not None and path.exists() and path.samefile(options.problem)


def saved(options: argparse.Namespace, path: Path, measurement: Sequence[str] | None = None) -> str:
    """The text of a problem file at `path` that asks for what the options ask for."""
    folder = path.resolve().parent
    lines = []
    for name, table in _tables(options, folder, measurement):
        if table:
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _tables(
    options: argparse.Namespace, folder: Path, measurement: Sequence[str] | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    def placed(text: str) -> str:
        return near(folder, text)

    for name, keys in TABLES.items():
        table: dict[str, Any] = {}
        for key in keys:
            value = getattr(options, key.dest, None)
            if key.dest == "measurement" and measurement is not None:
                value = list(measurement)
            if value is None or value is False or value == []:
                continue
            if key.is_always_file:
                value = _each(value, lambda text: near(folder, text, must=True))
            elif key.is_file:
                value = _each(value, placed)
            table[key.name] = value if key.dest not in _AS_TEXT else _plain(value)
        yield name, table
        if name == "operator" and options.noise is not None:
            yield "noise", _noise_table(options.noise, placed)


_AS_TEXT = {key.dest for key in _OPERATOR} | {"value_range"}


def _noise_table(text: str, placed: Callable[[str], str]) -> dict[str, Any]:
    found = noises.settled(text)
    table = {name: _plain(placed(value)) for name, value in found.texts.items()}
    return table if found.name == "gaussian" and table else {"model": found.name, **table}


def _each(value: Any, change: Callable[[str], str]) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def near(folder: Path, text: str, must: bool = False) -> str:
    """A path as a file in `folder` says it: relative where it is close by, else absolute."""
    file, colon, rest = text.rpartition(":")
    if not os.path.exists(text) and colon and os.path.isfile(file):
        return f"{near(folder, file)}:{rest}"
    if not must and not os.path.exists(text):
        return text
    path = os.path.abspath(text)
    relative = os.path.relpath(path, folder)
    short = path if relative.startswith(os.path.join("..", "..")) else relative
    return short + ("/" if text.endswith(("/", os.sep)) and not short.endswith("/") else "")


def _plain(text: Any) -> Any:
    """A number or a list of them where the text is one."""
    if not isinstance(text, str):
        return text
    if text == "true":
        return True
    if "," in text:
        parts = [_plain(part.strip()) for part in text.split(",")]
        return parts if all(isinstance(part, int | float) for part in parts) else text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)
