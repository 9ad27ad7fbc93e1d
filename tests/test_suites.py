"""The benchmark suites: the harness adds nothing, goes on after a kill, and shares work out."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.harness import FEW, PLAN, chosen, results
from tweedie_inverse import operators as ops
from tweedie_inverse.app.distributed import Place, find_place, shard
from tweedie_inverse.benchmarks.harness import report
from tweedie_inverse.benchmarks.harness.commands import everything, main
from tweedie_inverse.benchmarks.harness.plan import Pack, Plan, packs
from tweedie_inverse.benchmarks.harness.records import Store, Unit, read
from tweedie_inverse.benchmarks.harness.runner import run, work
from tweedie_inverse.benchmarks.harness.table import rows
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.problems.suites import STUDIES, SUITES, field
from tweedie_inverse.benchmarks.problems.task import Task


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(PLAN, chosen(*FEW), Store(folder), log=lambda line: None)
    return folder


def test_a_mismatch_is_a_record_with_its_reason(tmp_path):
    plan = Plan(SUITES["nonlinear"], images=1, samples=1, cap=1, tasks=("clipping",))
    run(plan, chosen("tv", "ddrm"), Store(tmp_path), log=lambda line: None)
    assert {record["skipped"] for record in read([tmp_path])} == {"needs a linear operator"}
    assert "| tv | needs a linear operator |" in "\n".join(report.markdown(read([tmp_path])))


def test_a_wrong_task_is_no_methods_fault():
    task = field(16, 1, "test")[0]
    broken = ops.MatrixOperator(torch.eye(4), noise=ops.GaussianNoise(0.1))
    bad = Task("bad", "bad", "field-16", broken, task.truths.flatten(1)[:, :4])
    unit = Unit("field", "bad", "bad", 0, "decoupled", {}, 1, 0, "")
    with pytest.raises(ValueError, match="images of shape"):
        work(Pack((unit,), bad, METHODS["decoupled"], 1))


def test_every_task_has_images_of_its_operators_shape_and_splits_that_differ():
    for suite in SUITES.values():
        for test, validation in zip(
            suite.make(suite.smoke_size, 2, "test"),
            suite.make(suite.smoke_size, 2, "validation"),
            strict=True,
        ):
            assert tuple(test.truths.shape) == (2, *test.operator.domain_shape)
            assert not torch.equal(test.truths, validation.truths)
            assert float(test.truths.std()) > 0.02


def test_shards_are_disjoint_and_complete():
    items = list(range(11))
    parts = [shard(items, Place(rank, 3)) for rank in range(3)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_place_is_as_given_or_as_the_launcher_says():
    assert find_place({}) == (0, 1)
    assert find_place({"RANK": "2", "WORLD_SIZE": "4"}) == (2, 4)
    assert find_place({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "3"}) == (1, 3)
    assert find_place({"RANK": "2", "WORLD_SIZE": "4"}, 0, 2) == (0, 2)
    array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}
    assert find_place(array) == (3, 4)
    assert find_place({"RANK": "0", "WORLD_SIZE": "1", **array}) == (3, 4)
    step = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}
    assert find_place({"SLURM_NTASKS": "2", **step}) == (1, 2)
    with pytest.raises(ValueError, match="both --rank and --world-size"):
        find_place({}, rank=1)
    with pytest.raises(ValueError, match="number from 0"):
        find_place({}, 2, 2)


def test_two_ranks_equal_one(undisturbed, tmp_path):
    for rank in (1, 0):
        run(PLAN, chosen(*FEW), Store(tmp_path), place=Place(rank, 2), log=lambda line: None)
    assert results(tmp_path) == results(undisturbed)


TWO = ["run", "field", "--smoke", "--keep-samples", "--methods", "decoupled", "dps", "wiener"]


@pytest.mark.parametrize("pair", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")])
def test_a_launchers_variables_share_the_command_out(pair, tmp_path, monkeypatch):
    main([*TWO, "--out", str(tmp_path / "one")])
    monkeypatch.setenv(pair[1], "2")
    for rank in "01":
        before = len(read([tmp_path / "two"])) if (tmp_path / "two").exists() else 0
        monkeypatch.setenv(pair[0], rank)
        main([*TWO, "--out", str(tmp_path / "two")])
        assert len(read([tmp_path / "two"])) - before == 6
    assert results(tmp_path / "two") == results(tmp_path / "one")


@pytest.mark.slow
def test_torchrun_with_two_processes_equals_one(tmp_path):
    """The launcher asks for one CPU thread a process; `--threads` keeps the bits equal."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    for name, start in (("one", []), ("two", launcher)):
        command = [
            sys.executable,
            *start,
            "-m",
            "tweedie_inverse.benchmarks",
            *TWO,
            "--out",
            str(tmp_path / name),
        ]
        subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    assert results(tmp_path / "two") == results(tmp_path / "one")


def test_a_finished_unit_is_left_alone(undisturbed):
    lines = []
    run(PLAN, chosen(*FEW), Store(undisturbed), log=lines.append)
    assert lines == []


@pytest.mark.slow
def test_killed_and_run_again_equals_undisturbed(undisturbed, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    while process.poll() is None and len(list(tmp_path.glob("units/*.json"))) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(tmp_path.glob("units/*.json")))
    assert 3 <= finished < len(list(packs(PLAN, chosen(*FEW))))
    run(PLAN, chosen(*FEW), Store(tmp_path), log=lambda line: None)
    left = [path for path in (tmp_path / "units").iterdir() if path.name.startswith(".")]
    for path in left:  # of the unit in flight: written, not yet in its place
        path.unlink()
    assert results(tmp_path) == results(undisturbed)


KILLED = """
import sys, time
from tweedie_inverse.benchmarks.harness import runner
from tweedie_inverse.benchmarks.harness.records import Store
from tests.harness import FEW, PLAN, chosen
runner.run(PLAN, chosen(*FEW), Store(sys.argv[1]), log=lambda line: time.sleep(0.3))
"""


@pytest.mark.slow
def test_smoke_run_and_report(tmp_path, capsys):
    names = [name for name in METHODS if name != "isotropic"]
    main(["run", "field", "--smoke", "--out", str(tmp_path)])
    quick = {
        "ct": "sparse view",
        "mri": "radial",
        "images": "super-resolution",
        "nonlinear": "coded diffraction",
    }
    for suite, task in quick.items():
        only = ["--methods", "decoupled", "dps", "wiener", "ddrm", "--tasks", task]
        main(["run", suite, "--smoke", "--out", str(tmp_path), *only])
    found = read([tmp_path])
    assert not [record for record in found if "failed" in record]
    assert {record["unit"]["method"] for record in found} >= set(names)
    main(["report", str(tmp_path)])
    text = (tmp_path / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "## field: Gaussian random fields" in text
    assert "**" in text
    assert "dps | evaluations 3, guidance annealed, weight 1 | deepinv" in text
    for table in text.split("###")[1:]:
        cells = [line for line in table.split("\n## ")[0].splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in cells}) == 1
    assert len(lines) > 60
    assert "commit" in text
    head, *body = (tmp_path / "report.csv").read_text().splitlines()
    assert head.startswith("suite,task,method,images,psnr_sample,psnr_sample_se")
    assert len(body) == len(rows(found))


def test_everything_is_run_once_in_a_smoke_run():
    assert everything(False) == [*SUITES, *STUDIES]
    smoke = everything(True)
    assert "images" in smoke
    assert "images-256" not in smoke
    assert {SUITES[name].make for name in smoke if name in SUITES} == {
        suite.make for suite in SUITES.values()
    }


def test_list_names_suites_and_sources(capsys):
    main(["list"])
    text = capsys.readouterr().out
    assert "field: Gaussian random fields" in text
    assert "DiffPIR(evaluations=100" in text
