"""Methods, suites and priors from the user's own files: the examples of the docs, and refusals."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tweedie_inverse.benchmarks.harness import table
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.records import read
from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
QUICK = ["--smoke", "--out", "results"]


def example(name):
    """A file that the page shows, by its first line."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(f"# {name}\n")]
    assert len([line for line in found.splitlines()[1:] if line]) <= 15
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the files of the page."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "problems.py"):
        (tmp_path / name).write_text(example(name))
    return tmp_path


def units(method=None):
    found = [record["unit"] for record in read(["results"])]
    return [unit for unit in found if method is None or unit["method"] == method]


def refused(capsys, *arguments):
    """What the command says when it ends with exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    return capsys.readouterr().err


def test_the_pages_method_runs_beside_ours(folder):
    """With the walk's own settings it gives what ours gives for them: the same metrics."""
    main(["run", "field", *QUICK, "--methods", "decoupled", "mine.py:MyMethod", "--tasks", "blur"])
    (mine,) = units("MyMethod")
    assert mine["settings"]["rho"] == 4.0
    assert mine["settings"]["source"] == "rho chosen by eye"
    assert re.fullmatch(r"mine\.py [0-9a-f]{12}", mine["settings"]["read from"])
    text = (folder / "mine.py").read_text().replace("rho: float = 4.0", "rho: float = 7.0")
    (folder / "mine.py").write_text(text)
    main(["run", "field", *QUICK, "--methods", "mine.py:MyMethod", "--tasks", "blur"])
    found = {
        (record["unit"]["method"], record["unit"]["settings"]["rho"]): record["metrics"]
        for record in read(["results"])
    }
    assert found["MyMethod", 7.0] == found["decoupled", 7.0]
    assert found["MyMethod", 4.0] != found["decoupled", 7.0]


def test_an_edited_method_is_another_unit_and_a_row_of_its_own(folder):
    command = ["run", "field", *QUICK, "--methods", "mine.py:MyMethod", "--tasks", "blur"]
    main(command)
    main(command)
    assert len(units()) == 1
    with (folder / "mine.py").open("a") as file:
        file.write("# edited\n")
    main(command)
    assert len(units()) == 2
    labels = {row.label for row in table.rows(read(["results"]))}
    assert len(labels) == 2
    assert all(re.fullmatch(r"MyMethod \[read from mine\.py [0-9a-f]{12}\]", one) for one in labels)


def test_an_instance_is_a_method_with_its_settings(folder):
    with (folder / "mine.py").open("a") as file:
        file.write("fast = MyMethod(evaluations=2, rho=3.0)\n")
    main(["run", "field", *QUICK, "--methods", "mine.py:fast", "--tasks", "blur"])
    (unit,) = units("fast")
    assert (unit["settings"]["evaluations"], unit["settings"]["rho"]) == (2, 3.0)


def test_the_pages_method_is_tuned_over_its_space_and_runs_with_the_file(folder):
    main(["tune", "field", *QUICK, "--methods", "mine.py:MyMethod", "--tasks", "blur"])
    written = json.loads(Path("results/tuned-field.json").read_text())
    (choice,) = written["choices"]
    assert choice["method"] == "MyMethod"
    assert set(choice["settings"]) == {"rho"}
    tuned = ["--tuned", "results/tuned-field.json"]
    main(["run", "field", *QUICK, "--methods", "mine.py:MyMethod", "--tasks", "blur", *tuned])
    (unit,) = units("MyMethod")
    assert "tuned by crps" in unit["settings"]["source"]
    # A file that speaks of a method that does not run is no obstacle to another one.
    main(["run", "field", *QUICK, "--methods", "wiener", "--tasks", "blur", *tuned])


@pytest.mark.parametrize(
    "named", [["problems.py:deblurring"], ["--suite", "problems.py:deblurring"]]
)
def test_the_pages_suite_runs_and_is_reported(folder, named):
    main(["run", *named, *QUICK, "--methods", "wiener", "pseudo-inverse"])
    assert {unit["task"] for unit in units()} == {"width 1.0", "width 3.0"}
    assert {unit["suite"] for unit in units()} == {"deblurring"}
    assert all(re.search(r"; problems\.py [0-9a-f]{12}; ", unit["problem"]) for unit in units())
    said = table.problem(read(["results"]), "deblurring", "width 1.0")
    assert "Prior phantom-64, 1 image of the test split" in said


def test_the_pages_suite_is_tuned(folder):
    command = ["tune", "--suite", "problems.py:deblurring", *QUICK, "--tasks", "width 1.0"]
    main([*command, "--methods", "tv"])
    assert json.loads(Path("results/tuned-deblurring.json").read_text())["split"] == "validation"


def test_a_suite_object_has_its_own_name_size_and_budget(folder):
    with (folder / "problems.py").open("a") as file:
        file.write(
            "from tweedie_inverse.benchmarks.problems.task import Suite\n"
            'named = Suite("slices", "Slices again", deblurring, cap=2)\n'
        )
    command = ["run", "problems.py:named", "--out", "results", "--images", "1", "--samples", "2"]
    main([*command, "--methods", "decoupled", "--tasks", "width 3.0"])
    (unit,) = units()
    assert (unit["suite"], unit["settings"]["evaluations"]) == ("slices", 2)


@pytest.mark.parametrize(
    "name", ["operators.py", "torch.py", "benchmarks.py", "tweedie_inverse.py"]
)
def test_a_users_file_may_have_any_name(folder, name):
    """It replaces no module of that name, before or after."""
    shutil.copy("mine.py", name)
    before = sys.modules.get(name.removesuffix(".py"))
    main(["run", "field", *QUICK, "--methods", f"{name}:MyMethod", "--tasks", "blur"])
    assert sys.modules.get(name.removesuffix(".py")) is before
    assert len(units("MyMethod")) == 1


def test_a_prior_replaces_that_of_every_task_and_is_in_the_record(folder):
    main(["run", "ct", *QUICK, "--methods", "wiener", "--tasks", "sparse view"])
    shutil.copy(WEIGHTS_FOLDER / "phantom-64.safetensors", "again.safetensors")
    shutil.copy(WEIGHTS_FOLDER / "phantom-128.safetensors", "larger.safetensors")
    few = ["run", "ct", *QUICK, "--methods", "wiener", "--tasks", "sparse view"]
    main([*few, "--prior", "again.safetensors"])
    same, mine = sorted(read(["results"]), key=lambda one: "again" in one["unit"]["problem"])
    assert "; again.safetensors; test" in mine["unit"]["problem"]
    digest = hashlib.sha256(Path("again.safetensors").read_bytes()).hexdigest()
    assert mine["unit"]["weights"] == same["unit"]["weights"] == digest[:16]
    assert mine["metrics"] == same["metrics"]
    main([*few, "--prior", "texture-64"])
    (other,) = [one for one in read(["results"]) if "texture-64" in one["unit"]["problem"]]
    assert other["metrics"]["crps"] != mine["metrics"]["crps"]


def test_a_prior_of_another_shape_is_refused_before_any_work(folder, capsys):
    message = refused(capsys, "run", "ct", *QUICK, "--methods", "wiener", "--prior", "digits-32")
    assert "--prior digits-32: does not fit task sparse view of suite ct" in message
    assert not Path("results").exists()
    message = refused(capsys, "run", "ct", *QUICK, "--prior", "nowhere.safetensors")
    assert "neither a shipped prior" in message
    message = refused(capsys, "run", "mixture", *QUICK, "--prior", "phantom-64")
    assert "--prior: mixture have priors of their own" in message


WRONG = """
from dataclasses import dataclass, field, replace
from tweedie_inverse.benchmarks.methods.base import Method
from tweedie_inverse.benchmarks.problems.suites import field as ours
from tweedie_inverse.benchmarks.problems.task import Suite, Task

number = 3

class NoDraw(Method):
    source = "made up"

@dataclass(frozen=True)
class NoSource(Method):
    def draw(self, *given): ...

@dataclass(frozen=True)
class NoDefault(NoSource):
    source = "made up"
    weight: float = field(kw_only=True)

@dataclass(frozen=True)
class NoJSON(NoSource):
    source = "made up"
    weight: object = object()

dps = NoDraw

def ct(size, images, split): ...
def nothing(size, images, split): ...
def numbers(size, images, split): return [1, 2]
def few(size, images, split):
    return [replace(task, truths=task.truths[:0]) for task in ours(16, 1, split)]
def twice(size, images, split): return 2 * ours(16, images, split)[:1]
"""


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.py:MyMethod", "there is no file .*nowhere.py"),
        ("wrong.py", "write FILE.py:NAME"),
        ("wrong.py:", "write FILE.py:NAME"),
        ("wrong.py:Missing", "wrong.py defines no Missing; it defines NoDraw, NoSource"),
        ("wrong.py:number", "needs a class that derives from .*Method, .* found int"),
        ("wrong.py:NoDraw", "cannot be made without arguments .*write draw"),
        ("wrong.py:NoDefault", "cannot be made without arguments .*give every setting a default"),
        ("wrong.py:NoSource", "needs source, a line that says where"),
        ("wrong.py:NoJSON", "settings must be numbers, strings.*not JSON serializable"),
        ("wrong.py:dps", "dps is the name of a method of the package; rename yours"),
        ("broken.py:MyMethod", "stopped with ModuleNotFoundError: .*no_such_module"),
        ("dpss", "there is no method 'dpss'; there are decoupled, .*and FILE.py:NAME"),
    ],
)
def test_a_wrong_method_is_refused_with_what_was_needed(folder, capsys, place, message):
    (folder / "wrong.py").write_text(WRONG)
    (folder / "broken.py").write_text("import no_such_module\n")
    said = refused(capsys, "run", "field", *QUICK, "--methods", place)
    assert re.search(message, said), said
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.py:suite", "there is no file"),
        (
            "wrong.py:number",
            r"needs a Suite or a function \(size, images, split\) -> tasks, found int",
        ),
        ("wrong.py:ct", "ct is the name of a suite of the package"),
        ("wrong.py:nothing", "must give a list of Task, got None"),
        ("wrong.py:numbers", r"must give a list of Task, got \[1, 2\]"),
        ("wrong.py:few", r"needs 1 test images of the operator's domain_shape, \(1, 1, 16, 16\)"),
        ("wrong.py:twice", "tasks of equal names"),
        ("cts", "there is no suite 'cts'; there are field, images"),
    ],
)
def test_a_wrong_suite_is_refused_with_what_was_needed(folder, capsys, place, message):
    (folder / "wrong.py").write_text(WRONG)
    said = refused(capsys, "run", "--suite", place, *QUICK, "--methods", "wiener")
    assert re.search(message, said), said
    assert not Path("results").exists()


def test_two_methods_of_one_name_and_two_suites_are_refused(folder, capsys):
    (folder / "other.py").write_text(example("mine.py") + "# another\n")
    few = ["run", "field", *QUICK, "--methods", "mine.py:MyMethod"]
    assert "there is another method MyMethod; rename one" in refused(
        capsys, *few, "other.py:MyMethod"
    )
    assert "name one suite, got ct and field" in refused(capsys, "run", "ct", "--suite", "field")
    assert "name one suite, got none" in refused(capsys, "run", "--smoke")
    assert "speed has no settings to choose" in refused(capsys, "tune", "speed")
    said = refused(capsys, "run", "mixture", *QUICK, "--methods", "mine.py:MyMethod")
    assert "mixture run methods of the package only, not MyMethod" in said
