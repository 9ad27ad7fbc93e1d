"""Python files of the user: what may be in them, and what is known of what they read."""

import sys

import numpy as np
import pytest

from tweedie_inverse.app.user_files import execute

FILE = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import helper_of_a_test
from helper_of_a_test import more

@dataclass
class Settings:
    size: int = 3
    other: Settings | None = None

data = np.load(Path(__file__).parent / "data.npy")
Path("cache.txt").write_text("the same")
with open("log.txt", "a") as file: file.write("a line")
value = Settings().size + more
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # within a second it would look unchanged
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "helper_of_a_test.py").write_text("more = 1\n")
    np.save(tmp_path / "data.npy", np.zeros(3))
    yield tmp_path
    sys.modules.pop("helper_of_a_test", None)


def test_dataclasses_helpers_and_data_are_found_and_known(folder):
    ran = execute("--operator", "mine.py")
    assert ran.module.value == 4
    assert list(ran.checksums) == ["mine.py", "cache.txt", "data.npy", "helper_of_a_test.py"]
    assert execute("--operator", folder / "mine.py") is ran


@pytest.mark.parametrize("changed", ["mine.py", "data.npy", "helper_of_a_test.py"])
def test_a_change_of_any_of_them_shows(changed, folder):
    before = execute("--operator", "mine.py")
    if changed == "data.npy":
        np.save(changed, np.ones(3))
    else:
        (folder / changed).write_text((folder / changed).read_text() + "more = 5\n")
    after = execute("--operator", "mine.py")
    assert [
        name for name in after.checksums if after.checksums[name] != before.checksums[name]
    ] == [changed]
    assert after.digest != before.digest
    assert after.module.value == (8 if changed.startswith("helper") else 4)


def test_the_digest_of_a_file_that_reads_nothing_is_its_own(folder):
    (folder / "alone.py").write_text("import json, numpy, torch\n")
    ran = execute("--operator", "alone.py")
    assert ran.digest == ran.checksums["alone.py"][:12]


def test_a_second_file_knows_the_helper_that_the_first_one_brought(folder):
    execute("--operator", "mine.py")
    (folder / "other.py").write_text("import helper_of_a_test\n")
    assert "helper_of_a_test.py" in execute("--operator", "other.py").checksums


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mine", "", "mine is no Python file by its name; call it mine.py"),
        ("bad.py", "def (", "bad.py stopped with SyntaxError: "),
        ("bad.py", "1 / 0", "bad.py stopped with ZeroDivisionError: division by zero"),
        ("bad.py", "raise SystemExit(3)", "bad.py stopped with SystemExit: 3"),
        ("bad.py", "import no_such_module", "bad.py stopped with ModuleNotFoundError"),
    ],
)
def test_a_file_that_does_not_run_is_refused(name, text, said, folder):
    (folder / name).write_text(text)
    before = set(sys.modules)
    with pytest.raises(ValueError, match="--operator x: ") as error:
        execute("--operator x", name)
    assert said in str(error.value)
    assert not [module for module in set(sys.modules) - before if module.endswith(name)]
