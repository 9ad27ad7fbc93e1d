"""Settings are chosen on the validation split, with as many candidates for every method."""

import json
from dataclasses import dataclass, replace

import pytest

from tests.test_suites import results
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.benchmarks.harness import tuning
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.benchmarks.harness.records import Store, read
from tweedie_inverse.benchmarks.harness.report import markdown
from tweedie_inverse.benchmarks.harness.runner import run
from tweedie_inverse.benchmarks.methods.classical import Wiener
from tweedie_inverse.benchmarks.methods.registry import METHODS, SPACES
from tweedie_inverse.benchmarks.problems.suites import SUITES

PLAN = Plan(
    SUITES["field"], images=2, samples=3, size=16, tasks=("blur", "super-resolution"), pictures=0
)


@dataclass(frozen=True)
class Shifted(Wiener):
    """Exact samples, shifted: better the smaller the shift; one setting fails."""

    shift: float = 0.2
    broken: bool = False

    source = "made up"

    def draw(self, y, task, prior, seeds, together):
        if self.broken:
            raise ArithmeticError("diverged")
        return super().draw(y, task, prior, seeds, together) + self.shift


SPACE = {"shifted": {"shift": (0.2, 0.0, 0.1, -0.1), "broken": (False, True)}}


@pytest.fixture
def shifted():
    """A method with settings, and one without."""
    return {"shifted": Shifted(), "wiener": Wiener()}


def test_every_method_with_settings_has_eight_and_its_published_ones_among_them():
    for name, space in SPACES.items():
        assert len(tuning.candidates(name, METHODS[name], space, 8)) == 8
        assert all(getattr(METHODS[name], key) in values for key, values in space.items()), name
    without = set(METHODS) - set(SPACES)
    assert without == {"wiener", "pseudo-inverse"}


def test_candidates_are_the_same_everywhere_distinct_and_as_many_as_asked_for():
    published, space = METHODS["diffpir"], SPACES["diffpir"]
    found = tuning.candidates("diffpir", published, space, 8)
    assert found == tuning.candidates("diffpir", published, space, 8)
    assert found[0] == published
    assert len(set(found)) == 8
    assert found[:4] == tuning.candidates("diffpir", published, space, 4)
    with pytest.raises(ValueError, match="--candidates 8 at most"):
        tuning.candidates("dps", METHODS["dps"], SPACES["dps"], 9)


def tuned(shifted, folder, **options):
    lines = []
    path = tuning.tune(PLAN, shifted, SPACE, folder, count=8, log=lines.append, **options)
    return path, lines


def test_the_best_candidate_is_chosen_on_validation_images_and_used(shifted, tmp_path):
    path, _ = tuned(shifted, tmp_path)
    written = json.loads(path.read_text())
    assert (written["metric"], written["candidates"], written["split"]) == ("crps", 8, "validation")
    for choice in written["choices"]:
        assert choice["settings"] == {"shift": 0.0, "broken": False}
        assert choice["score"] < choice["published"]
        assert choice["failed"] == 4
    assert [choice["task"] for choice in written["choices"]] == ["blur", "super-resolution"]
    tried = read([tmp_path / "tuning"])
    assert len(tried) == 2 * 2 * 8
    assert all(record["unit"]["problem"].endswith("; validation") for record in tried)
    assert not list((tmp_path / "tuning" / "units").glob("*.pictures"))

    settings = tuning.load([path], shifted)
    run(PLAN, shifted, Store(tmp_path), tuned=settings, log=lambda line: None)
    units = [record["unit"] for record in read([tmp_path]) if record["unit"]["method"] == "shifted"]
    assert {unit["settings"]["shift"] for unit in units} == {0.0}
    assert all(unit["problem"].endswith("; test") for unit in units)
    text = "\n".join(markdown(read([tmp_path])))
    assert "made up; tuned by crps on 2 validation images, 8 candidates" in text


def test_tuning_goes_on_and_is_shared_out(shifted, tmp_path):
    path, lines = tuned(shifted, tmp_path / "one")
    assert len(lines) == 32
    again, lines = tuned(shifted, tmp_path / "one")
    assert again == path
    assert lines == []
    missing, lines = tuned(shifted, tmp_path / "two", place=Place(1, 2))
    assert missing is None
    assert lines[-1].startswith("16 units of other processes are missing")
    both, _ = tuned(shifted, tmp_path / "two", place=Place(0, 2))
    assert json.loads(both.read_text())["choices"] == json.loads(path.read_text())["choices"]
    assert results(tmp_path / "two" / "tuning") == results(tmp_path / "one" / "tuning")


def test_published_settings_win_a_draw_and_higher_can_be_better(shifted, tmp_path):
    path, _ = tuned(shifted, tmp_path, metric="psnr_mean")
    choices = json.loads(path.read_text())["choices"]
    assert all(choice["score"] > choice["published"] for choice in choices)
    shifted["shifted"] = replace(shifted["shifted"], shift=0.0)
    path, _ = tuned(shifted, tmp_path)
    for choice in json.loads(path.read_text())["choices"]:
        assert choice["score"] == choice["published"]


def test_the_command_tunes_and_runs_with_the_file(tmp_path, capsys):
    few = ["field", "--smoke", "--methods", "dps", "--out", str(tmp_path), "--tasks", "blur"]
    main(["tune", *few])
    assert "tuned-field.json" in capsys.readouterr().out
    main(["run", *few, "--tuned", str(tmp_path / "tuned-field.json")])
    assert "tuned by crps" in read([tmp_path])[0]["unit"]["settings"]["source"]
    (tmp_path / "other.json").write_text("{}")
    refused = {
        "none of wiener has settings": ["tune", *few, "--methods", "wiener"],
        "field has random inpainting, blur": ["run", *few, "--tasks", "blurr"],
        "not a file that tune wrote": ["run", *few, "--tuned", str(tmp_path / "other.json")],
    }
    for message, arguments in refused.items():
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err
