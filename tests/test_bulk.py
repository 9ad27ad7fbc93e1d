"""A folder of measurements from the command line: shared out, resumed, and not stopped by one."""

import os

import numpy as np
import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app import solve_files as bulk
from tweedie_inverse.app.cli import main
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.solving.posterior import Posterior

OPERATOR_FILE = """
from tweedie_inverse import operators as ops
scanner = ops.Tomography((1, 64, 64), angles=6, noise=ops.GaussianNoise(0.5))
"""
NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path):
    """Three measurements, and a file that is none."""
    scanner = ops.Tomography((1, 64, 64), angles=6, noise=ops.GaussianNoise(0.5))
    (tmp_path / "data").mkdir()
    for index, name in enumerate(NAMES):
        y = scanner.measure(CTSlices(64).images([HELD_OUT_SEED + index])[0], seed=index)
        np.save(tmp_path / "data" / f"{name}.npy", y.numpy())
    (tmp_path / "data" / "notes.txt").write_text("not a measurement")
    (tmp_path / "scanner.py").write_text(OPERATOR_FILE)
    return tmp_path


def command(folder, out, *more):
    operator = f"{folder / 'scanner.py'}:scanner"
    settings = ["--operator", operator, "--prior", "phantom-64", "--steps", "2", "--samples", "2"]
    return ["solve", str(folder / "data"), *settings, "--out", str(folder / out), *more]


def contents(out):
    found = {path.stem: Posterior.load(path) for path in out.glob("*.safetensors")}
    return {name: posterior.samples for name, posterior in found.items()}


def test_processes_share_a_folder_and_equal_one(folder, monkeypatch):
    main(command(folder, "alone"))
    alone = contents(folder / "alone")
    assert sorted(alone) == list(NAMES)
    assert not torch.equal(alone["a"] - alone["a"].mean(0), alone["b"] - alone["b"].mean(0))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("1", ["b"]), ("0", list(NAMES))):
        monkeypatch.setenv("RANK", rank)
        main(command(folder, "shared"))
        assert sorted(contents(folder / "shared")) == expected
    shared = contents(folder / "shared")
    assert all(torch.equal(shared[name], alone[name]) for name in NAMES)


def test_a_bad_file_is_told_of_and_costs_no_other_one(folder, capsys):
    np.save(folder / "data" / "b.npy", np.full((1, 6, 91), np.nan, dtype=np.float32))
    (folder / "data" / "a2.npy").write_text("not an array")
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "out"))
    told = capsys.readouterr()
    assert "2 file(s) could not be solved" in told.err
    assert "b.npy: solve: y holds 546 NaN or infinite entries" in told.err
    assert "a2.npy: " in told.err
    assert sorted(contents(folder / "out")) == ["a", "c"]
    reason = folder / "out" / "b.error.txt"
    assert "NaN or infinite" in reason.read_text()
    np.save(folder / "data" / "b.npy", np.load(folder / "data" / "a.npy"))
    (folder / "data" / "a2.npy").unlink()
    main(command(folder, "out"))
    assert sorted(contents(folder / "out")) == list(NAMES)
    assert not reason.exists()


def test_torchrun_gets_no_exit_code_that_would_stop_the_others(folder, monkeypatch, capsys):
    """Seen: it ends all processes as soon as one of them fails."""
    np.save(folder / "data" / "b.npy", np.zeros(3, dtype=np.float32))
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
    main(command(folder, "out"))
    assert "1 file(s) could not be solved" in capsys.readouterr().err


def test_a_rerun_does_what_is_missing_or_older_than_its_measurement(folder, capsys):
    main(command(folder, "out"))
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("*.safetensors")}
    (folder / "out" / "b.safetensors").unlink()
    later = (folder / "out" / "c.safetensors").stat().st_mtime + 10
    os.utime(folder / "data" / "c.npy", (later, later))
    capsys.readouterr()
    main(command(folder, "out"))
    told = capsys.readouterr().out
    assert "a.npy: already there" in told
    assert told.count("already there") == 1
    after = {path: path.stat().st_mtime_ns for path in (folder / "out").glob("*.safetensors")}
    same = {path.stem for path in before if before[path] == after[path]}
    assert same == {"a"}


def test_results_of_other_settings_are_not_mixed(folder, capsys):
    main(command(folder, "out"))
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "out", "--seed", "3"))
    assert "results of other settings (seed: 0 there, 3 now)" in capsys.readouterr().err


def test_patterns_names_and_collisions(tmp_path):
    for name in ("x/a.npy", "x/b.npy", "y/a.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = bulk.find([str(tmp_path / "x" / "*.npy")], "out")
    assert [item.measurement.stem for item in found] == ["a", "b"]
    assert not bulk.is_bulk([str(tmp_path / "x" / "a.npy")])
    assert bulk.is_bulk([str(tmp_path / "x")])
    with pytest.raises(ValueError, match="would both be written to"):
        bulk.find([str(tmp_path / "x"), str(tmp_path / "y")], "out")
    with pytest.raises(ValueError, match="there is no file"):
        bulk.find([str(tmp_path / "z.npy")], "out")


def test_files_get_seeds_of_their_own_whatever_process_runs_them(tmp_path):
    items = [bulk.Item(tmp_path / f"{n}.npy", tmp_path / "out" / n) for n in NAMES]
    told = [[], []]
    for rank in range(2):
        bulk.solve_files(items, lambda item: 1 / 0, place=Place(rank, 2), tell=told[rank].append)
    assert [len(lines) for lines in told] == [2, 1]
    seeds = {bulk.seed_of(item, 0) for item in items} | {bulk.seed_of(items[0], 1)}
    assert len(seeds) == 4
