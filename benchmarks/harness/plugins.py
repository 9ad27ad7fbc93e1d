"""Methods and suites from the user's own files, written ``mine.py:NAME``.

A file is executed as a module of a private name (`app.user_files`).  Its checksum, and that of what
it reads, goes into the units, so that results of an edited file are other units.
"""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from tweedie_inverse.app.user_files import execute
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.task import Suite


class Chosen(NamedTuple):
    """Methods by name, and the files of those that a user wrote, as `Plan.files` has them."""

    methods: dict[str, Method]
    files: dict[str, str]


def choose_methods(asked: Iterable[str] | None, known: Mapping[str, Method]) -> Chosen:
    """The methods that are asked for: names of `known`, or ``mine.py:NAME``; None means all known.

    Raises:
        ValueError: an unknown name, a file without such a method, or two methods of one name.
    """
    methods: dict[str, Method] = {}
    files: dict[str, str] = {}
    for text in known if asked is None else asked:
        if _is_place(text):
            name, value, file = _find("--methods", text)
            if name in known:
                raise ValueError(
                    f"--methods {text}: {name} is the name of a method of the package; rename yours"
                )
            method = _method(text, value)
        elif text in known:
            name, method, file = text, known[text], ""
        else:
            raise ValueError(
                f"--methods: there is no method {text!r}; there are {', '.join(known)}, and "
                "FILE.py:NAME for a method of your own"
            )
        if name in methods and (methods[name], files.get(name, "")) != (method, file):
            raise ValueError(
                f"--methods {text}: there is another method {name}; rename one of them"
            )
        methods[name] = method
        if file:
            files[name] = file
    return Chosen(methods, files)


def choose_suite(asked: str, known: Mapping[str, Suite]) -> Suite:
    """The suite that is asked for: a name of `known`, or ``mine.py:NAME``.

    Raises:
        ValueError: an unknown name, a file without such a suite, or a suite with a known name.
    """
    if asked in known:
        return known[asked]
    if not _is_place(asked):
        raise ValueError(
            f"there is no suite {asked!r}; there are {', '.join(known)}, and FILE.py:NAME for a "
            "suite of your own"
        )
    name, value, file = _find("--suite", asked)
    if isinstance(value, Suite):
        suite = value
    elif callable(value) and not inspect.isclass(value):
        title = (inspect.getdoc(value) or name).splitlines()[0]
        suite = Suite(name, title, value)
    else:
        raise ValueError(
            f"--suite {asked}: needs a Suite or a function (size, images, split) -> tasks, found "
            f"{_kind(value)}"
        )
    if suite.name in known:
        raise ValueError(
            f"--suite {asked}: {suite.name} is the name of a suite of the package; rename yours"
        )
    return replace(suite, file=file)


def _is_place(text: str) -> bool:
    return text.rpartition(":")[0].endswith(".py") or text.endswith(".py")


def _method(place: str, value: Any) -> Method:
    """The method itself, with its class's own settings where it is a class."""
    if inspect.isclass(value) and issubclass(value, Method):
        try:
            value = value()
        except TypeError as error:
            raise ValueError(
                f"--methods {place}: the class cannot be made without arguments ({error}); give "
                "every setting a default, and write draw"
            ) from error
    if not isinstance(value, Method):
        raise ValueError(
            f"--methods {place}: needs a class that derives from "
            f"tweedie_inverse.benchmarks.methods.base.Method, or an instance of one, found "
            f"{_kind(value)}"
        )
    if not isinstance(getattr(value, "source", None), str):
        raise ValueError(
            f"--methods {place}: the class needs source, a line that says where its settings are "
            'from, such as source = "tuned by hand"'
        )
    try:
        json.dumps(asdict(value))
    except TypeError as error:
        raise ValueError(
            f"--methods {place}: its settings must be numbers, strings, booleans, None, or tuples "
            f"of these, since records keep them as JSON ({error})"
        ) from error
    return value


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if inspect.isclass(value) else type(value).__name__


def _find(option: str, place: str) -> tuple[str, Any, str]:
    """Name, object, and the file's name and checksum."""
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file or not name:
        raise ValueError(f"{option} {place}: write FILE.py:NAME, with a name that the file defines")
    if not path.is_file():
        raise ValueError(f"{option} {place}: there is no file {path.resolve()}")
    ran = execute(f"{option} {place}", path)
    module = ran.module
    if not hasattr(module, name):
        defined = [
            key
            for key, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
        ]
        raise ValueError(
            f"{option} {place}: {file} defines no {name}; it defines {', '.join(defined) or 'none'}"
        )
    return name, getattr(module, name), f"{path.name} {ran.digest}"
