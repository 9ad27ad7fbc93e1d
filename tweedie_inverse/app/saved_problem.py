"""The problem file of a command: what was asked of `solve`, so that it can be asked again."""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tweedie_inverse.app.catalogue import noises
from tweedie_inverse.app.problem_file import BESIDE, TABLES, TEXTS
from tweedie_inverse.runtime.atomic import replace

_HEADER = "# Written by tweedie-inverse. To solve it: tweedie-inverse solve {name}\n"


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
            table[key.name] = value if key.dest not in TEXTS else _plain(value)
        yield name, table
        if name == "operator" and options.noise is not None:
            yield "noise", _noise_table(options.noise, placed)


def _noise_table(text: str, placed: Callable[[str], str]) -> dict[str, Any]:
    found = noises.settled(text)
    table = {name: _plain(placed(value)) for name, value in found.texts.items()}
    return table if found.name == "gaussian" and table else {"model": found.name, **table}


def _each(value: Any, change: Callable[[str], str]) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def near(folder: Path, text: str, must: bool = False) -> str:
    """A path as a file in `folder` says it: relative where it is close by, else absolute."""
    if text == BESIDE:
        return text
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
