"""Records as one file to compute with: a row for each unit, or the records themselves.

.jsonl     the records, one on each line, which every command reads as it reads a folder
.csv       a table, a row for each unit
.parquet   the same table, by pyarrow
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tweedie_inverse.benchmarks.harness import records
from tweedie_inverse.runtime.atomic import ready_folder, replace

KINDS = (".parquet", ".csv", ".jsonl")
# Parts of a record that become columns of their own, behind those of its unit.
_PARTS = ("metrics", "cost", "run")


def write(places: Sequence[str], to: str | Path) -> tuple[Path, int]:
    """All records of folders and files in one file; its path, and how many there are.

    Raises:
        ValueError: no records, or a file of another kind.
        ImportError: pyarrow is missing, for .parquet.
    """
    path = Path(to)
    if path.suffix not in KINDS:
        raise ValueError(f"export(--out {path}): needs a file that ends in {', '.join(KINDS)}")
    if path.suffix == ".parquet":
        _pyarrow()  # before the records are read, which may take long
    found = records.read(places)
    if not found:
        raise ValueError(f"export: no results in {', '.join(map(str, places))}")
    ready_folder(path.parent)
    replace(path, _content(path.suffix, found))
    return path.resolve(), len(found)


def _content(kind: str, found: list[dict[str, Any]]) -> bytes:
    if kind == ".jsonl":
        return records.in_lines(found).encode()
    rows = [flat(record) for record in found]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _parquet(rows, names) if kind == ".parquet" else _csv(rows, names)


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """One row: fields of the unit, then numbers; a list or a dict as JSON.

    A number that a unit lacks is missing, and not 0.
    """
    row = {name: _cell(value) for name, value in record["unit"].items()}
    for part in _PARTS:
        row |= {f"{part}.{name}": _cell(value) for name, value in record.get(part, {}).items()}
    for name in ("failed", "skipped"):
        if name in record:
            row[name] = str(record[name])
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    # Evaluations may come as whole numbers from one method and as fractions from another.
    return float(value) if isinstance(value, float) else value


def _csv(rows: list[dict[str, Any]], names: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: list[dict[str, Any]], names: list[str]) -> bytes:
    pyarrow = _pyarrow()
    from pyarrow import parquet

    columns = {name: _one_kind([row.get(name) for row in rows]) for name in names}
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _one_kind(values: list[Any]) -> list[Any]:
    """Numbers of one column as floats, where any of them is one; a column has one type."""
    numbers = [value for value in values if isinstance(value, int | float)]
    if any(isinstance(value, float) for value in numbers):
        return [float(value) if isinstance(value, int) else value for value in values]
    return values


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            "export: a .parquet file needs pyarrow: pip install tweedie-inverse[benchmarks]; a "
            ".csv file has the same rows without it"
        ) from error
    return pyarrow
