"""Samples that are written to a file as they arrive are those that memory would hold."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils._pytree import tree_iter

import tweedie_inverse as ti
from tests.pretend_device import Elsewhere
from tests.test_residence import SOLVES, _network, _on
from tests.test_resume import StoppedError, stop_after
from tweedie_inverse import operators as ops
from tweedie_inverse.io import hdf5_array
from tweedie_inverse.runtime import tensor_file
from tweedie_inverse.solving import blocks, checkpoint, samples_file
from tweedie_inverse.solving.streaming import SampleFile

h5py = pytest.importorskip("h5py")
SHAPE = (1, 12, 12)
SETTINGS = {"num_samples": 4, "steps": 5, "seed": 3, "batch_size": 2}
PRIOR = ti.priors.Gaussian(torch.zeros(SHAPE), power_spectrum=torch.ones(12, 12))


def problem(instrument="mask", batch=2):
    operator = SOLVES[instrument]()
    truth = torch.linspace(0, 1, batch * 144).reshape(batch, *SHAPE)
    return operator.measure(truth, seed=1), operator


def solved(file=None, prior=PRIOR, instrument="mask", batch=2, **changed):
    y, operator = problem(instrument, batch)
    return ti.solve(y, operator, prior, samples_to=file, **{**SETTINGS, **changed})


def assert_equal(found, expected):
    assert torch.equal(found.samples, expected.samples)
    assert found.origin == expected.origin
    assert found.diagnostics.notes() == expected.diagnostics.notes()
    theirs = expected.diagnostics.tensors()
    for name, tensor in found.diagnostics.tensors().items():
        assert torch.equal(tensor, theirs[name]), name
    for name in ("y", "of_mean", "of_sample"):
        assert torch.equal(getattr(found.measured, name), getattr(expected.measured, name))


WALKS = {
    "table": ("mask", True, "decoupled"),
    "network": ("tomography", False, "decoupled"),
    "langevin": ("blur", True, "langevin"),
}


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
@pytest.mark.parametrize("name", WALKS)
def test_samples_of_a_file_are_those_of_memory(name, tmp_path):
    instrument, table, method = WALKS[name]
    given = {"prior": _network(table), "instrument": instrument, "method": method}
    expected, file = solved(**given), tmp_path / "samples.h5"
    found = solved(file, **given)
    assert_equal(found, expected)
    assert found.stats.denoiser_calls == expected.stats.denoiser_calls
    assert found.stats.operator_calls == expected.stats.operator_calls
    assert_equal(ti.Posterior.load(file), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.h5"]


def test_one_measurement_without_a_batch_axis_has_none_in_the_file(tmp_path):
    y, operator = problem(batch=1)
    expected = ti.solve(y[0], operator, PRIOR, **SETTINGS)
    found = ti.solve(y[0], operator, PRIOR, samples_to=tmp_path / "one.h5", **SETTINGS)
    assert found.samples.shape == (4, *SHAPE)
    assert_equal(found, expected)
    assert ti.io.read(tmp_path / "one.h5", key="samples").values.shape == (4, *SHAPE)


@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_moves_and_an_unknown_noise_level(tmp_path):
    counts = ops.Mask(torch.ones(12, 12), noise=ops.PoissonNoise(20.0))
    y = counts.measure(torch.full((1, *SHAPE), 2.0))
    settings = {**SETTINGS, "num_samples": 2, "steps": 2, "batch_size": 1}
    for operator, noise in ((counts, None), (problem()[1], "estimate")):
        expected = ti.solve(y, operator, PRIOR, noise=noise, **settings)
        file = tmp_path / f"{noise}.h5"
        found = ti.solve(y, operator, PRIOR, noise=noise, samples_to=file, **settings)
        for one in (found, ti.Posterior.load(file)):
            assert_equal(one, expected)
            if noise is not None:
                assert torch.equal(one.noise.std.samples, expected.noise.std.samples)


def test_what_is_asked_of_samples_in_a_file_is_the_same(tmp_path, monkeypatch):
    """Equal to what all samples at once give, where they are taken in blocks."""
    expected = solved(num_samples=21)
    file = tmp_path / "samples.h5"
    found = solved(file, num_samples=21)
    monkeypatch.setattr(blocks, "_NUMBERS", 500)  # three images, or a few pixels
    questions = {
        "mean": lambda p: p.mean,
        "std": lambda p: p.std,
        "lower": lambda p: p.interval(0.9)[0],
        "upper of few": lambda p: p.interval(0.99)[1],
        "quantile": lambda p: p.quantile(0.3),
        "quantiles": lambda p: p.quantile([0.1, 0.5]),
        "of each": lambda p: p.quantile(torch.tensor([0.1, 0.6])),
        "of": lambda p: p.interval(0.9, of=lambda x: x.amax((1, 2, 3)))[0],
        "error": lambda p: p.functional().standard_error,
        "probability": lambda p: p.probability(lambda x: x > 0.1),
        "array": lambda p: torch.from_numpy(p.numpy()["samples"]),
    }
    answers = {name: ask(found) for name, ask in questions.items()}
    error = found.functional().standard_error_of_std
    monkeypatch.undo()
    for name, ask in questions.items():
        assert torch.equal(answers[name], ask(expected)), name
    torch.testing.assert_close(error, expected.functional().standard_error_of_std)
    drawn, right = found[0].summary, expected[0].summary  # what pictures are made of
    for mine, theirs in zip(tree_iter(drawn), tree_iter(right), strict=True):
        assert torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
    found[0].report(tmp_path / "page.html")
    found.save(tmp_path / "saved.safetensors")
    assert_equal(ti.Posterior.load(tmp_path / "saved.safetensors"), expected)


def test_a_function_that_mixes_samples_is_refused_in_blocks(tmp_path, monkeypatch):
    posterior = solved(num_samples=6)
    for size in (144, 288, 432):
        monkeypatch.setattr(blocks, "_NUMBERS", size)
        with pytest.raises(ValueError, match="mixes the samples"):
            posterior.functional(lambda x: x - x.mean(0, keepdim=True))


def test_changing_a_posterior_leaves_its_file_alone(tmp_path):
    found = solved(tmp_path / "samples.h5")
    before = found.samples.clone()
    found.samples.zero_()
    assert torch.equal(ti.Posterior.load(tmp_path / "samples.h5").samples, before)


def test_it_goes_on_after_the_last_part(tmp_path):
    expected, file = solved(), tmp_path / "samples.h5"
    with pytest.raises(StoppedError):
        solved(file, callback=stop_after(12))  # two parts of five steps, and two steps
    with pytest.raises(ValueError, match="have not all arrived"):
        ti.Posterior.load(file)
    steps = []
    found = solved(file, callback=steps.append)
    assert len(steps) == 10
    assert_equal(found, expected)
    assert found.stats.denoiser_calls == expected.stats.denoiser_calls
    assert_equal(solved(file, callback=steps.append), expected)
    assert len(steps) == 10  # all of it was there


def test_it_goes_on_within_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    expected, file = solved(), tmp_path / "samples.h5"
    walk = tmp_path / "samples.walk"
    with pytest.raises(StoppedError):
        solved(file, checkpoint=walk, callback=stop_after(12))
    _, notes = tensor_file.read(walk, checkpoint._FORMAT, caller="", need="")
    finished, underway, _ = notes["content"]["parts"]
    assert finished["parts"] == []
    assert underway["parts"][:3] == [4, 6, 1]
    steps = []
    assert_equal(solved(file, checkpoint=walk, callback=steps.append), expected)
    assert len(steps) == 8
    assert not walk.exists()


def test_a_walk_that_was_kept_without_a_file_goes_on_in_one(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)
    expected, walk = solved(), tmp_path / "samples.walk"
    with pytest.raises(StoppedError):
        solved(checkpoint=walk, callback=stop_after(12))
    steps = []
    found = solved(tmp_path / "samples.h5", checkpoint=walk, callback=steps.append)
    assert len(steps) == 8
    assert_equal(found, expected)


KILLED = """
import os, signal, sys
from tests.test_streaming import solved
seen = []
def callback(step):
    seen.append(step)
    if len(seen) > 12:
        os.kill(os.getpid(), signal.SIGKILL)
solved(sys.argv[1], callback=callback)
"""


def test_it_goes_on_after_a_kill(tmp_path):
    file = tmp_path / "samples.h5"
    root = Path(__file__).parents[1]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(file)], cwd=root, check=False)
    assert ended.returncode == -9
    steps = []
    assert_equal(solved(file, callback=steps.append), solved())
    assert len(steps) == 10


def test_a_kill_while_the_rest_is_written_loses_nothing(tmp_path, monkeypatch):
    expected, file = solved(), tmp_path / "samples.h5"

    def torn(path, tensors, notes, told):
        with h5py.File(path, "r+", locking=False) as opened:
            opened["expected"] = 1.0
        with open(path, "r+b") as raw:
            raw.write(b"torn" * 20)
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(samples_file, "complete", torn)
        with pytest.raises(StoppedError):
            solved(file)
    steps = []
    assert_equal(solved(file, callback=steps.append), expected)
    assert not steps


def test_files_of_others_are_refused_and_left_alone(tmp_path):
    file = tmp_path / "samples.h5"
    with h5py.File(file, "w") as other:
        other["samples"] = [1.0, 2.0]
    for content in (file.read_bytes(), b"no HDF5 at all"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="holds no samples of solve"):
            solved(file)
        with pytest.raises(ValueError, match=r"Posterior\.load"):
            ti.Posterior.load(file)
        assert file.read_bytes() == content
        assert [path.name for path in tmp_path.iterdir()] == ["samples.h5"]


def test_another_call_is_refused(tmp_path):
    file = tmp_path / "samples.h5"
    with pytest.raises(StoppedError):
        solved(file, callback=stop_after(12))
    content = file.read_bytes()
    for changed in ({"seed": 4}, {"num_samples": 5}, {"instrument": "blur"}):
        with pytest.raises(ValueError, match="belongs to another call"):
            solved(file, **changed)
    solved(file)
    with pytest.raises(ValueError, match="belongs to another call"):
        solved(file, seed=4)
    assert len(content) < file.stat().st_size


def test_a_file_without_its_record_is_refused(tmp_path):
    file = tmp_path / "samples.h5"
    with pytest.raises(StoppedError):
        solved(file, callback=stop_after(12))
    (tmp_path / "samples.h5.parts").unlink()
    with pytest.raises(ValueError, match="that says which is missing"):
        solved(file)


def evaluated(monkeypatch):
    """How often a prior is asked from now on."""
    calls, denoise = [], ti.priors.Gaussian.denoise
    monkeypatch.setattr(
        ti.priors.Gaussian,
        "denoise",
        lambda self, x, sigma: calls.append(sigma) or denoise(self, x, sigma),
    )
    return calls


def test_what_cannot_be_is_said_before_the_first_evaluation(tmp_path, monkeypatch):
    calls, file = evaluated(monkeypatch), tmp_path / "samples.h5"
    with pytest.raises(ValueError, match=r"'.*samples\.h5'"):
        solved(tmp_path / "samples.npy")
    with pytest.raises(TypeError, match="samples_to"):
        solved(3)
    with pytest.raises(ValueError, match="leave samples_to= out"):
        solved(file, method="particle")
    little = SimpleNamespace(total=10**9, used=0, free=2**20 + 4000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: little)
    with pytest.raises(ValueError, match="GB free"):
        solved(file)
    assert not calls
    assert not list(tmp_path.iterdir())


def test_two_solves_do_not_write_one_file(tmp_path):
    y, operator = problem()
    file = tmp_path / "samples.h5"
    run = ti.solving.setup.prepare(y, operator, PRIOR, "auto", 4, 5, 3, None)
    first = SampleFile(file, run)
    first.begin()
    try:
        with pytest.raises(ValueError, match="another solve writes"):
            solved(file)
    finally:
        first.end()
    assert_equal(solved(file), solved())


def test_an_array_in_one_piece_is_where_h5py_says(tmp_path):
    file, x = tmp_path / "array.h5", torch.arange(24.0).reshape(4, 2, 3)
    place = hdf5_array.laid_out(file, "x", (2, 2, 2, 3), x.dtype, {"said": "so"}, "test")
    hdf5_array.write(file, place, 12, x[2:])
    hdf5_array.write(file, place, 0, x[:2])
    with h5py.File(file) as opened:
        assert hdf5_array.place_of(opened, "x") == place
        assert torch.equal(torch.from_numpy(opened["x"][()]).flatten(0, 1), x)
    assert torch.equal(hdf5_array.mapped(file, place).flatten(0, 1), x)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_samples_of_an_accelerator_go_to_the_disk(tmp_path):
    """The part that walks is on the device, the posterior on the CPU."""
    prior, (y, operator) = _network(True), problem()
    settings = {**SETTINGS, "steps": 2, "num_samples": 1, "batch_size": 1}
    expected = ti.solve(y, operator, prior, **settings)
    file = tmp_path / "samples.h5"
    with Elsewhere() as device:
        there = _on(device, prior)
        with pytest.raises(StoppedError):
            ti.solve(
                y.to(device.device), operator, there, samples_to=file, callback=stop_after(2),
                **settings,
            )  # fmt: skip
        found = ti.solve(y.to(device.device), operator, there, samples_to=file, **settings)
    for one in (found, ti.Posterior.load(file)):
        assert one.samples.device.type == "cpu"
        torch.testing.assert_close(one.samples, expected.samples, rtol=1e-5, atol=1e-5)
        tensors = one.diagnostics.tensors()
        assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}
        torch.testing.assert_close(tensors, expected.diagnostics.tensors(), rtol=1e-4, atol=1e-4)


def test_a_file_that_was_deleted_begins_anew(tmp_path):
    file = tmp_path / "samples.h5"
    with pytest.raises(StoppedError):
        solved(file, callback=stop_after(12))
    file.unlink()  # the record is left, of another call as well
    assert_equal(solved(file, seed=4), solved(seed=4))


def test_a_kill_while_the_file_is_made_loses_nothing(tmp_path, monkeypatch):
    file = tmp_path / "samples.h5"

    def half(path, *args):
        path.write_bytes(b"half")
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(samples_file, "laid_out", half)
        with pytest.raises(StoppedError):
            solved(file)
    assert_equal(solved(file), solved())
