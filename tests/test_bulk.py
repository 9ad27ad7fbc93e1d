"""A folder of measurements from the command line: shared out, resumed, and not stopped by one."""

import io
import os
import shutil
import struct

import numpy as np
import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.app import solve_files as bulk
from tweedie_inverse.app.cli import main
from tweedie_inverse.app.distributed import Place
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.priors.zoo import WEIGHTS_FOLDER
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


def npy(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def claiming(numbers):
    """A header that promises more than there is."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({numbers},), }}".encode()
    header = header.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def several():
    content = io.BytesIO()
    np.savez(content, a=np.zeros(3))
    return content.getvalue()


DAMAGED = {
    "half a zip": (b"PK\x03\x04broken", "the content is a zip (npz) file; rename it"),
    "145 TB": (claiming(2 * 10**13), "claims an array of shape (20000000000000,)"),
    "a little more than there is": (claiming(10), "damaged: its header claims 80 bytes"),
    "empty": (b"", "is empty, damaged"),
    "objects": (npy(np.array([{}])), "Object arrays cannot be loaded"),
    "several": (several(), "the content is a zip (npz) file; rename it"),
    "text": (npy(np.array(["a"])), "got an array of text"),
    "another shape": (npy(np.zeros((3, 2))), "shape"),
    "complex": (npy(np.zeros((1, 6, 91), dtype=complex)), "two channels"),
}


def test_every_damaged_file_costs_only_itself(folder, capsys):
    shutil.rmtree(folder / "data")
    (folder / "data").mkdir()
    for name, (content, _) in DAMAGED.items():
        (folder / "data" / f"{name}.npy").write_bytes(content)
    np.save(folder / "data" / "good.npy", np.zeros((1, 6, 91), dtype=">f4"))
    os.mkfifo(folder / "data" / "pipe.npy")
    (folder / "data" / "nowhere.npy").symlink_to("gone")
    (folder / "data" / "folder.npy").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "out"))
    told = capsys.readouterr().err
    assert f"{len(DAMAGED) + 3} file(s) could not be solved" in told
    assert told.count("there is no such file, or it is a folder, a pipe or a device") == 3
    for name, (_, reason) in DAMAGED.items():
        (line,) = [line for line in told.splitlines() if f"/{name}.npy: " in line]
        assert reason in line
    assert list(contents(folder / "out")) == ["good"]


@pytest.mark.parametrize("error", [RuntimeError("torch"), MemoryError(), KeyError("x")])
def test_no_kind_of_error_ends_the_folder(error, tmp_path):
    items = [bulk.Item(tmp_path / f"{n}.npy", tmp_path / "out" / f"{n}.safetensors") for n in "ab"]
    for item in items:
        item.measurement.write_bytes(b"x")

    def fail(item):
        raise error

    assert len(bulk.solve_files(items, fail, tell=lambda line: None)) == 2
    assert all(type(error).__name__ in item.error.read_text() for item in items)


def solved(folder, capsys, *more):
    """The names that were solved now."""
    capsys.readouterr()
    main(command(folder, "out", *more))
    lines = capsys.readouterr().out.splitlines()
    return [line.split()[1][0] for line in lines if " s, " in line]


def test_a_measurement_may_have_the_name_of_the_settings(folder, capsys):
    for name in NAMES:
        (folder / "data" / f"{name}.npy").rename(folder / "data" / "settings.npy")
    assert solved(folder, capsys) == ["s"]
    assert solved(folder, capsys) == []


def test_replaced_measurements_and_damaged_results_are_solved_again(folder, capsys):
    assert solved(folder, capsys) == list(NAMES)
    assert solved(folder, capsys) == []
    result = folder / "out" / "a.safetensors"
    result.write_bytes(result.read_bytes()[:-1] + b"x")
    (folder / "out" / "b.record.json").write_text("{")
    stat = (folder / "data" / "c.npy").stat()
    np.save(folder / "data" / "c.npy", np.load(folder / "data" / "a.npy"))
    os.utime(folder / "data" / "c.npy", (stat.st_atime, stat.st_mtime))
    assert solved(folder, capsys) == list(NAMES)
    assert solved(folder, capsys) == []


def test_results_of_another_prior_or_operator_are_not_mixed(folder, capsys):
    """The same names with another content: of the prior, and of a file that the operator reads."""
    for name in "bc":
        (folder / "data" / f"{name}.npy").unlink()
    prior, angles, scanner = (folder / n for n in ("prior.safetensors", "angles.npy", "scanner.py"))
    shutil.copy(WEIGHTS_FOLDER / "phantom-64.safetensors", prior)
    np.save(angles, np.arange(6) * 30.0)
    text = OPERATOR_FILE.replace("angles=6", f"angles=np.load({str(angles)!r})")
    scanner.write_text(f"import numpy as np\n{text}")
    assert solved(folder, capsys, "--prior", str(prior)) == ["a"]
    other = (WEIGHTS_FOLDER / "phantom-128.safetensors").read_bytes()
    for path, spoilt, name in (
        (prior, other, "the prior"),
        (angles, npy(np.arange(6) * 29.0), "angles.npy"),
        (scanner, scanner.read_bytes() + b"\n", "scanner.py"),
    ):
        kept = path.read_bytes()
        path.write_bytes(spoilt)
        with pytest.raises(SystemExit, match="2"):
            main(command(folder, "out", "--prior", str(prior)))
        told = capsys.readouterr().err
        assert f"results of other settings (content of {name}: " in told
        path.write_bytes(kept)
    assert solved(folder, capsys, "--prior", str(prior)) == []


REFUSED = {
    "r.png": "the picture goes beside them as r.png",
    "y.npy": "it is the file y.npy, which is read",
    "scanner.py": "it is the file scanner.py, which is read",
    "to-y.safetensors": "it is the file y.npy, which is read",
    "y.npy/r": "no file can be written in",
    "/proc/nowhere/r": "no file can be written in",
    "/dev/null": "is a device",
    "data": "is a folder",
    "": "is a folder",
}


@pytest.mark.parametrize("out", REFUSED)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(out, folder, capsys, monkeypatch):
    """Before the operator's file runs, even."""
    monkeypatch.chdir(folder)
    shutil.copy(folder / "data" / "a.npy", "y.npy")
    (folder / "to-y.safetensors").symlink_to("y.npy")
    (folder / "scanner.py").write_text("raise AssertionError('executed')")
    before = (folder / "y.npy").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        main(["solve", "y.npy", "--operator", "scanner.py:x", "--prior", "no", "--out", out])
    assert REFUSED[out] in capsys.readouterr().err
    assert (folder / "y.npy").read_bytes() == before


def test_results_do_not_replace_what_is_read(folder, capsys):
    """A prior that has the name of a result; an output folder that is a file."""
    (folder / "out").mkdir()
    prior = folder / "out" / "b.safetensors"
    shutil.copy(WEIGHTS_FOLDER / "phantom-64.safetensors", prior)
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "out", "--prior", str(prior)))
    assert "b.safetensors, which is read" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(command(folder, "scanner.py"))
    assert "no file can be written in" in capsys.readouterr().err
    assert prior.read_bytes() == (WEIGHTS_FOLDER / "phantom-64.safetensors").read_bytes()


def test_a_share_is_for_several_files(folder, capsys):
    file = str(folder / "data" / "a.npy")
    arguments = command(folder, "r.safetensors", "--rank", "0", "--world-size", "2")
    with pytest.raises(SystemExit, match="2"):
        main(["solve", file, *arguments[2:]])
    assert "share several files; there is one" in capsys.readouterr().err
