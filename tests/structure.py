"""The package's source as a graph of imports, read without running it, and what it must not hold.

Late imports and those under TYPE_CHECKING count like all others: a circle that only they close is
a circle still.  Every function takes the folder that holds the package's folder.
"""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = "tweedie_inverse"
# From the roof to the ground; a room imports from storeys below its own only.
STOREYS = (
    ("__main__",),
    ("benchmarks",),
    ("",),  # the package's own __init__
    ("app",),
    ("phase_space",),
    ("training",),
    ("datasets",),
    ("evaluation",),
    ("solving",),
    ("density", "sampling"),
    ("walks",),
    ("conditional",),
    ("priors",),
    ("operators",),
    ("io",),
    ("runtime", "numerics"),
    ("boundary",),
)
HEIGHT = {room: -storey for storey, rooms in enumerate(STOREYS) for room in rooms}
LONGEST = 400
FOLDERS_AT_THE_TOP = ("operators", "benchmarks")


class Import(NamedTuple):
    """One imported name, as written: `line` of the file of module `by`."""

    by: str
    line: int
    name: str
    level: int


def source_files(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name; links are followed."""
    found = {}
    for folder, _, names in os.walk(root / PACKAGE, followlinks=True):
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                parts = path.relative_to(root).with_suffix("").parts
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def imports(name: str, path: Path) -> Iterator[Import]:
    """All imports of a file, wherever they stand in it."""
    for node in ast.walk(_parsed(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, node.lineno, alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(name, node.lineno, f"{node.module or ''}.{alias.name}", node.level)


def graph(root: Path) -> dict[str, set[str]]:
    """For every module the modules of the package that it imports."""
    files = source_files(root)
    return {
        name: {
            target
            for found in imports(name, path)
            if (target := _module(found.name, files)) is not None
        }
        for name, path in files.items()
    }


def _module(name: str, files: dict[str, Path]) -> str | None:
    """The module that an imported name is, or is defined in."""
    if name in files:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in files else None


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circles(root: Path) -> list[str]:
    """One line for each circle found; none if the imports can be put into an order."""
    arrows = {name: set(targets) for name, targets in graph(root).items()}
    found = []
    while arrows:
        free = [name for name, targets in arrows.items() if not targets & arrows.keys()]
        if not free:
            circle = _walk_round(arrows)
            found.append(" -> ".join([*circle, circle[0]]))
            free = circle  # taken out, so that the next one shows
        for name in free:
            del arrows[name]
    return found


def _walk_round(arrows: dict[str, set[str]]) -> list[str]:
    """A circle in a graph where every module has an arrow to another."""
    path = [min(arrows)]
    while (following := min(arrows[path[-1]] & arrows.keys())) not in path:
        path.append(following)
    return path[path.index(following) :]


def arrows_up(root: Path) -> list[str]:
    """Imports from the same storey's other rooms, or from a storey above."""
    found = []
    for name, targets in graph(root).items():
        for target in sorted(targets):
            rooms = room(name), room(target)
            unknown = [which for which in rooms if which not in HEIGHT]
            if unknown:
                found.append(f"{name}: no storey for {unknown[0]!r}")
            elif rooms[0] != rooms[1] and HEIGHT[rooms[0]] <= HEIGHT[rooms[1]]:
                found.append(f"{name} -> {target}")
    return found


def wrong_imports(root: Path) -> list[str]:
    """Relative ones, ones of the tests, of names that exist in a checkout only, and of nothing."""
    files, found = source_files(root), []
    for name, path in files.items():
        for imported in imports(name, path):
            place = f"{name}, line {imported.line}: {imported.name}"
            top = imported.name.split(".")[0]
            if imported.level:
                found.append(f"{place} is imported relatively")
            elif top == "tests":
                found.append(f"{place} is of the tests")
            elif top in FOLDERS_AT_THE_TOP:
                found.append(f"{place} is not under {PACKAGE}")
            elif top == PACKAGE and _module(imported.name, files) is None:
                found.append(f"{place} does not exist")
    return found


def unexplained_folders(root: Path) -> list[str]:
    """Folders with modules whose `__init__` does not say in two lines what lives there."""
    files, found = source_files(root), []
    for folder in sorted({path.parent for path in files.values()}):
        path = folder / "__init__.py"
        text = ast.get_docstring(_parsed(path.read_text())) if path.exists() else None
        if text is None or len(text.splitlines()) < 2:
            found.append(str(folder.relative_to(root)))
    return found


def long_files(root: Path) -> list[str]:
    counts = {name: len(path.read_text().splitlines()) for name, path in source_files(root).items()}
    return [f"{name}: {count} lines" for name, count in counts.items() if count > LONGEST]
