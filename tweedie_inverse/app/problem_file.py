"""A problem in one file: tables of TOML to the arguments of `solve`; `saved_problem` writes them.

Every key is an option of the command line under its own name, so that both mean the same and are
checked at one place; options of the command line come after those of the file and override them.
Relative paths are relative to the file.
"""

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tweedie_inverse.app.catalogue import noises
from tweedie_inverse.app.catalogue.instruments import INSTRUMENTS
from tweedie_inverse.app.catalogue.options import OPTIONS, SIZE
from tweedie_inverse.app.catalogue.suggestions import nearest

SUFFIX = ".toml"
# What stands for a file whose name follows from that of the result.
BESIDE = "beside"


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
        *_keys("out", "like", "report", is_always_file=True),
        *_keys("write"),
        Key("as", "suffix"),
    ),
}
# What a command needs that solves nothing; [noise] is always taken.
EQUIPMENT = ("measurement", "operator", "prior")
# Options whose values are texts, numbers or not.
TEXTS = {key.dest for key in _OPERATOR} | {"value_range"}
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


def arguments(
    path: str | Path, given: argparse.Namespace, taken: Sequence[str] = tuple(TABLES)
) -> tuple[list[str], list[str]]:
    """The options of a file, and its measurements, as they would be written on the command line.

    Args:
        given: what the command line says itself, with None where it says nothing: another
            operator, or another way to say the same, replaces what the file says of it.
        taken: the tables whose options the command has.

    Raises:
        ValueError: as of `read`.
    """
    tables, folder = read(path), Path(path).parent
    found: list[str] = []
    operator = tables.get("operator", {})
    tables["operator"] = _not_replaced(operator, given)
    for name in taken:
        for key in TABLES[name]:
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
    if os.path.isabs(text) or text == BESIDE:
        return text
    there = _shortened(os.path.join(folder, text))
    head = os.path.join(folder, text.rpartition(":")[0] or text)
    return there if must or os.path.exists(there) or os.path.isfile(head) else text


def _shortened(path: str) -> str:
    """``a/../b`` as ``b``, where no link makes them differ."""
    short = os.path.normpath(path)
    same = not os.path.exists(path) or (os.path.exists(short) and os.path.samefile(path, short))
    return short + ("/" if path.endswith("/") else "") if same else path
