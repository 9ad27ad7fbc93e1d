"""The house: storeys without circles, folders that explain themselves, phase space removable."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tweedie_inverse as ti
from tests import structure
from tests.structure import PACKAGE, source_files

ROOT = Path(__file__).parents[1]
RULES = [
    structure.circles,
    structure.arrows_up,
    structure.wrong_imports,
    structure.unexplained_folders,
    structure.long_files,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_keeps_the_rule(rule):
    assert rule(ROOT) == []


# Each rule refuses what it is there to refuse.

EXPLAINED = '"""What lives here.\n\nAnd what does not."""\n'


def tree(folder, **files):
    """A package of the given files: double underscores stand for folders."""
    for name, text in {"": "", **files}.items():
        path = folder / PACKAGE / (name.replace("__", "/") + ".py" if name else "__init__.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").write_text(EXPLAINED)
    return folder


LATE = "def f():\n    from tweedie_inverse.walks.base import g\n"
TYPES = (
    "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from tweedie_inverse.walks.base import g\n"
)


@pytest.mark.parametrize("closing", [LATE, TYPES, "from tweedie_inverse.walks import base\n"])
def test_circles_are_refused(closing, tmp_path):
    files = {
        "walks__base": "from tweedie_inverse.walks.first import f\n",
        "walks__first": "import tweedie_inverse.walks.second as second\n",
    }
    assert structure.circles(tree(tmp_path / "open", **files, walks__second="")) == []
    (circle,) = structure.circles(tree(tmp_path / "closed", **files, walks__second=closing))
    names = [part.split(".")[-1] for part in circle.split(" -> ")]
    assert names == ["base", "first", "second", "base"]


def test_every_circle_is_named(tmp_path):
    pairs = {
        "walks__a": "import tweedie_inverse.walks.b",
        "walks__b": "import tweedie_inverse.walks.a",
        "priors__c": "import tweedie_inverse.priors.d",
        "priors__d": "import tweedie_inverse.priors.c",
    }
    assert len(structure.circles(tree(tmp_path, **pairs))) == 2


@pytest.mark.parametrize(
    ("by", "target", "refused"),
    [
        ("priors__network", "walks.base", True),
        ("numerics__random", "operators.base", True),
        ("sampling__sampling", "density.bound", True),  # next door
        ("walks__decoupled", "priors.base", False),
        ("walks__decoupled", "walks.base", False),
        ("app__cli", "", True),  # from the package's own __init__
        ("benchmarks__runner", "", False),
        ("cellar__coal", "numerics.random", True),  # a room without a storey
    ],
)
def test_arrows_that_point_up_are_refused(by, target, refused, tmp_path):
    files = {by: f"import {PACKAGE}{'.' if target else ''}{target}\n"}
    if target:
        files[target.replace(".", "__")] = ""
    found = structure.arrows_up(tree(tmp_path, **files))
    assert bool(found) == refused, found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from . import base", "relatively"),
        ("from ..priors import base", "relatively"),
        ("from tests.laws import Diagonal", "of the tests"),
        ("def f():\n    import operators", "not under"),
        ("from benchmarks.harness import records", "not under"),
        ("from tweedie_inverse.nowhere import f", "does not exist"),
    ],
)
def test_wrong_imports_are_refused(text, message, tmp_path):
    (found,) = structure.wrong_imports(tree(tmp_path, walks__base=text))
    assert message in found
    assert "walks.base, line" in found


@pytest.mark.parametrize("text", ["", '"""One line."""\n', None])
def test_folders_that_do_not_explain_themselves_are_refused(text, tmp_path):
    root = tree(tmp_path, walks__base="")
    assert structure.unexplained_folders(root) == []
    path = root / PACKAGE / "walks" / "__init__.py"
    path.unlink() if text is None else path.write_text(text)
    assert structure.unexplained_folders(root) == [f"{PACKAGE}/walks"]


def test_long_files_are_refused(tmp_path):
    root = tree(tmp_path, walks__base="x = 1\n" * 400, walks__long="x = 1\n" * 401)
    assert structure.long_files(root) == [f"{PACKAGE}.walks.long: 401 lines"]


# What users get


def test_dir_shows_the_public_names():
    assert set(dir(ti)) == {*ti.__all__, "phase_space"}
    for name in dir(ti):
        assert getattr(ti, name) is not None


def test_the_wheel_has_every_folder_with_modules(monkeypatch):
    from distutils.core import run_setup

    import setuptools  # noqa: F401  (it must come before distutils, which it replaces)

    monkeypatch.chdir(ROOT)
    found = run_setup("setup.py", stop_after="config")
    folders = {
        name if path.name == "__init__.py" else name.rpartition(".")[0]
        for name, path in source_files(ROOT).items()
    }
    assert sorted(found.packages) == sorted(folders)
    for folder in structure.FOLDERS_AT_THE_TOP:
        assert found.package_dir[f"{PACKAGE}.{folder}"] == folder
    assert (ROOT / PACKAGE / "py.typed").exists()
    assert "py.typed" in found.package_data[PACKAGE]


# Phase space can be taken out

NEED_MOMENTUM = [
    "tweedie_inverse.benchmarks.studies.phase_laws",
    "tweedie_inverse.benchmarks.studies.phase_space",
]
WITHOUT = """
import importlib, sys
from pathlib import Path
# An editable install would find the folder that was deleted in the checkout it was made from.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
for name in sys.argv[1:]:
    if not name.endswith("__main__"):
        importlib.import_module(name)
import torch
import tweedie_inverse as ti
assert Path(ti.__file__).is_relative_to(Path.cwd()), ti.__file__
assert "phase_space" not in dir(ti) and "digits-32-psld" not in dir(ti)
prior = ti.priors.Gaussian(torch.zeros(1, 4, 4), power_spectrum=torch.ones(4, 4))
operator = ti.operators.Mask(torch.ones(1, 4, 4), noise=ti.operators.GaussianNoise(0.1))
posterior = ti.solve(operator.measure(torch.zeros(1, 4, 4), seed=0), operator, prior, num_samples=2)
assert posterior.samples.isfinite().all()
assert ti.load_prior("phantom-64").denoise(torch.zeros(1, 1, 64, 64), 0.1).isfinite().all()
assert "phantom-64" in [card.name for card in ti.list_priors()]
from tweedie_inverse.__main__ import main
main(["train", "--help"])
"""


@pytest.mark.slow
def test_phase_space_can_be_taken_out(tmp_path):
    """Its folder and one line are deleted; everything else imports, solves, loads and lists."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (PACKAGE, *structure.FOLDERS_AT_THE_TOP):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    shutil.rmtree(tmp_path / PACKAGE / "phase_space")
    path = tmp_path / PACKAGE / "__init__.py"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"from {PACKAGE} import phase_space")]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept))
    left = sorted(source_files(tmp_path).keys() - set(NEED_MOMENTUM))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *left],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "usage: tweedie-inverse train" in done.stdout
