"""``--json``: what a command found as one object on stdout, and all words on stderr."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tweedie_inverse.app.endings import in_one_line


@contextmanager
def reported(options: argparse.Namespace) -> Iterator[None]:
    """Run a command; with ``--json`` print the dictionary ``options.result`` that it leaves.

    An error is an object, too: ``{"command": ..., "error": "..."}``, beside its exit code.
    """
    options.result = {}
    if not getattr(options, "json", False):
        yield
        return
    stdout = sys.stdout
    result: dict[str, Any] = {"command": options.command}
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        result["error"] = in_one_line(error)
        raise
    finally:
        if options.result or "error" in result:
            print(json.dumps(plain({**result, **options.result}), allow_nan=False), file=stdout)


def plain(value: Any) -> Any:
    """What JSON can hold: numbers that are none become null, arrays lists, paths texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value.resolve()) if isinstance(value, Path) else str(value)
