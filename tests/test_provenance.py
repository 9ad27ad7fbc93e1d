"""What a record says about its origin, and what is said where a package is missing."""

import dataclasses
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tweedie_inverse as ti
from tweedie_inverse.benchmarks.harness import commands, packages, records
from tweedie_inverse.benchmarks.problems import priors

VERSION = f"tweedie-inverse {ti.__version__}"


def git(folder, *command):
    identity = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    done = subprocess.run(
        ["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_is_that_of_the_repository_which_the_file_belongs_to(tmp_path):
    """An installed package may lie in a user's repository, tracked or not."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "analysis.py").write_text("# the user's own\n")
    installed = tmp_path / ".venv" / "records.py"
    installed.parent.mkdir()
    installed.write_text("# ours\n")
    git(tmp_path, "add", "analysis.py")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    assert records.revision(installed) == VERSION
    expected = git(tmp_path, "describe", "--always", "--abbrev=12")
    assert records.revision(tmp_path / "analysis.py") == expected
    (tmp_path / "analysis.py").write_text("# changed\n")
    assert records.revision(tmp_path / "analysis.py") == f"{expected}-dirty"


def test_outside_a_repository_and_without_git_it_is_the_version(tmp_path, monkeypatch):
    (tmp_path / "records.py").write_text("# ours\n")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert records.revision(tmp_path / "records.py") == VERSION
    monkeypatch.setenv("PATH", str(tmp_path))
    assert records.revision(Path(records.__file__)) == VERSION


UNIT = records.Unit(
    suite="field",
    task="blur",
    problem="a title; an operator; field-16; test",
    image=1,
    method="decoupled",
    settings={"evaluations": 50, "rho": 7.0, "clip": (-1.0, 1.0), "source": "s"},
    samples=16,
    seed=0,
    weights="field-16",
)


def test_a_unit_keeps_its_name_so_that_earlier_runs_can_be_resumed():
    """The name that the harness gave it before methods could be plugged in."""
    assert UNIT.name == "b4b69ec45d6d97136a06"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(records.Unit)])
def test_every_field_of_a_unit_is_in_its_name(field):
    value = getattr(UNIT, field)
    other = {**value, "rho": 3.0} if isinstance(value, dict) else value + type(value)(1)
    assert dataclasses.replace(UNIT, **{field: other}).name != UNIT.name


def test_a_priors_checksum_is_that_of_its_files(tmp_path):
    """Of one file its SHA-256; of a folder it changes with any file and with any file's name."""
    one = tmp_path / "weights.safetensors"
    one.write_bytes(b"weights")
    assert priors.checksum(one) == priors.checksum(str(one)) == "9a129038d9a00aed"
    folders = []
    for number, (name, content) in enumerate((("a", b"1"), ("a", b"2"), ("b", b"1"), ("a", b"1"))):
        inner = tmp_path / str(number) / "network"
        inner.mkdir(parents=True)
        (inner / name).write_bytes(content)
        folders.append(priors.checksum(tmp_path / str(number)))
    assert folders[0] == folders[3]
    assert len(set(folders)) == 3
    assert priors.checksum("field-16") == "field-16"


@pytest.fixture
def without(monkeypatch):
    """Hides packages from the question whether they are there."""

    def hide(*names):
        found = importlib.util.find_spec
        monkeypatch.setattr(
            packages.importlib.util,
            "find_spec",
            lambda name, *rest: None if name in names else found(name, *rest),
        )

    return hide


@pytest.mark.parametrize(
    ("arguments", "missing", "what"),
    [
        (["run", "field"], "deepinv", "the metrics of suite field"),
        (["run", "speed"], "deepinv", "the study speed"),
        (["run", "all"], "deepinv", "the metrics of suite field"),
        (["tune", "ct"], "deepinv", "the metrics of suite ct"),
        (["report", "results"], "jinja2", "the report"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_before_any_work(
    arguments, missing, what, without, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    without(missing)
    with pytest.raises(SystemExit, match="2"):
        commands.main([*arguments, *(["--out", "results"] if arguments[0] != "report" else [])])
    said = capsys.readouterr().err
    assert said.startswith(f"error: {missing}, needed for {what}, cannot be found")
    assert 'pip install "tweedie-inverse[benchmarks]"' in said
    assert list(tmp_path.iterdir()) == []


def test_a_method_names_its_own_packages(without):
    without("deepinv")
    with pytest.raises(ImportError, match=r"deepinv, needed for method dps.*\[benchmarks\]"):
        packages.require(commands.METHODS["dps"].packages, "method dps")


def test_the_command_line_lists_without_any_optional_package():
    hidden = ("deepinv", "diffusers", "jinja2", "sklearn", "scoringrules", "torchmetrics")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
        "from tweedie_inverse.benchmarks.harness.commands import main; main(['list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DiffPIR(evaluations=100" in done.stdout
