"""Benchmark units that fail: they cost only themselves, are said, and are tried again."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tests.harness import PLAN
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.records import Store, read
from tweedie_inverse.benchmarks.harness.runner import run
from tweedie_inverse.benchmarks.methods.classical import Wiener

RUN = ["run", "field", "--smoke", "--tasks", "blur", "--methods", "wiener"]


@dataclass(frozen=True)
class Fails(Wiener):
    """Fails once for each error that waits."""

    source = "made up"
    errors: ClassVar[list[Exception]] = []

    def draw(self, y, task, prior, seeds, together):
        if self.errors:
            raise self.errors.pop()
        return super().draw(y, task, prior, seeds, together)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, ArithmeticError, KeyError])
def test_a_failed_unit_is_a_record_and_is_tried_again(kind, tmp_path):
    plan = replace(PLAN, tasks=("blur",))
    methods, store = {"fails": Fails(), "wiener": Wiener()}, Store(tmp_path)
    Fails.errors[:] = [kind("a fault")]
    run(plan, methods, store, log=lambda line: None)
    failed = [one for one in read([tmp_path]) if "failed" in one]
    assert len(failed) == store.failed == 1
    assert "a fault" in failed[0]["failed"]
    lines, again = [], Store(tmp_path)
    run(plan, methods, again, log=lines.append)
    assert len(lines) == 1
    assert not any("failed" in one for one in read([tmp_path]))
    assert again.failed == 0


def test_a_damaged_record_is_made_again(tmp_path, capsys):
    main([*RUN, "--out", str(tmp_path)])
    (path,) = (tmp_path / "units").glob("*.json")
    before = read([tmp_path])[0]["metrics"]
    path.write_text(path.read_text()[:50])
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(tmp_path)])
    assert "is damaged; delete it, or run its suite again" in capsys.readouterr().err
    main([*RUN, "--out", str(tmp_path)])
    assert read([tmp_path])[0]["metrics"] == before


MINE = """
from tests.test_failed_units import Fails
Fails.errors[:] = [RuntimeError("a fault")]
mine = Fails()
"""


def test_the_exit_code_says_that_units_failed(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    command = [*RUN, f"{tmp_path / 'mine.py'}:mine", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    told = capsys.readouterr()
    assert "failed: RuntimeError: a fault" in told.out
    assert "1 unit(s) failed" in told.err
    assert len(read([tmp_path])) == 2
    main(command)
    # torchrun would stop the processes that are still at work.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    (tmp_path / "mine.py").write_text(f"{MINE}\n")
    main(command)
    assert "1 unit(s) failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--together", "-1"], "benchmarks(together=-1): needs a whole number of at least 1"),
        (["--images", "0"], "benchmarks(images=0): needs a whole number of at least 1"),
        (["--samples", "0"], "benchmarks(samples=0): needs a whole number of at least 1"),
        (["--cap", "0"], "benchmarks(cap=0): needs a whole number of at least 1"),
        (["--threads", "0"], "benchmarks(threads=0): needs a whole number of at least 1"),
        (["--pictures", "-1"], "benchmarks(pictures=-1): needs a whole number of at least 0"),
        (["--rank", "2", "--world-size", "2"], "rank 2 is not in"),
        (["--tasks", "blur", "typo"], "got typo"),
        (["--out", "/proc/nowhere"], "no file can be written in /proc/nowhere"),
    ],
)
def test_settings_are_checked_before_any_unit(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*RUN, "--out", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
