"""A walk that was stopped goes on from its file to the samples that it would have had."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import tweedie_inverse as ti
from tests.test_residence import SOLVES, _network
from tweedie_inverse import operators as ops
from tweedie_inverse.solving import checkpoint, tree

SHAPE = (1, 12, 12)


class StoppedError(Exception):
    pass


def stop_after(steps):
    seen = []

    def callback(step):
        seen.append(step)
        if len(seen) > steps:
            raise StoppedError

    return callback


@pytest.fixture
def always(monkeypatch):
    """Every step is kept."""
    monkeypatch.setattr(checkpoint, "_EVERY", 0.0)


def measured(operator, batch=1):
    return operator.measure(torch.full((batch, *operator.domain_shape), 0.5))


WALKS = {
    "decoupled": ("mask", True, "decoupled"),
    "decoupled-from-network": ("tomography", False, "decoupled"),
    "decoupled-one-secant-less": ("blur", True, ti.walks.Decoupled(memory=1.0)),
    "langevin": ("mask", True, "langevin"),
    "particle": ("mask", True, "particle"),
    "particle-from-network": ("mask", False, "particle"),
    "particle-wiener": ("tomography", True, ti.walks.Particle(path="wiener", correctors=1)),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_goes_on_from_any_step(name, tmp_path):
    instrument, table, method = WALKS[name]
    operator, prior = SOLVES[instrument](), _network(table)
    y, file = measured(operator), tmp_path / "step.walk"
    settings = {"method": method, "num_samples": 3, "steps": 10, "seed": 7}
    whole = list(ti.iterate(y, operator, prior, **settings))
    for index in (0, 2, len(whole) - 1):
        whole[index].save(file)
        rest = list(ti.iterate(y, operator, prior, resume=file, **settings))
        assert [step.level for step in rest] == [step.level for step in whole[index + 1 :]]
        assert all(torch.equal(a.x, b.x) for a, b in zip(rest, whole[index + 1 :], strict=True))


def test_hamiltonian_moves_go_on(tmp_path):
    prior = _network(True)
    operator = ops.Mask(torch.ones(SHAPE[1:]), noise=ops.PoissonNoise(20.0))
    y, file = operator.measure(torch.full((1, *SHAPE), 2.0)), tmp_path / "step.walk"
    whole = list(ti.iterate(y, operator, prior, steps=4, num_samples=2))
    whole[1].save(file)
    rest = list(ti.iterate(y, operator, prior, steps=4, num_samples=2, resume=file))
    assert torch.equal(rest[-1].x, whole[-1].x)


def test_several_instruments_go_on_one_after_the_other(tmp_path):
    masks = [ops.Mask(ops.random_mask(SHAPE, 0.4, seed=seed)) for seed in range(3)]
    operator = ops.per_image(masks, noise=ops.GaussianNoise(0.1))
    y, file = measured(operator, 3), tmp_path / "step.walk"
    whole = list(ti.iterate(y, operator, _network(True), steps=4, num_samples=2))
    for index in (3, 5):
        whole[index].save(file)
        rest = list(ti.iterate(y, operator, _network(True), steps=4, num_samples=2, resume=file))
        expected = whole[index + 1 :]
        assert [step.walkers for step in rest] == [step.walkers for step in expected]
        assert all(torch.equal(a.x, b.x) for a, b in zip(rest, expected, strict=True))


@pytest.mark.parametrize(
    ("method", "batch_size", "stop"),
    [
        ("decoupled", 3, 1),
        ("decoupled", 3, 13),
        ("decoupled", None, 2),
        ("langevin", 4, 9),
        ("particle", 2, 13),
    ],
)
def test_solve_goes_on_to_the_same_posterior(method, batch_size, stop, tmp_path, always):
    operator, prior = SOLVES["mask"](), _network(True)
    y, file = measured(operator, 2), tmp_path / "kept.walk"
    settings = {"method": method, "num_samples": 5, "steps": 8, "batch_size": batch_size}
    steps, every = [], []
    whole = ti.solve(y, operator, prior, callback=every.append, **settings)
    with pytest.raises(StoppedError):
        ti.solve(y, operator, prior, callback=stop_after(stop), checkpoint=file, **settings)
    found = ti.solve(y, operator, prior, callback=steps.append, checkpoint=file, **settings)
    assert torch.equal(found.samples, whole.samples)
    assert not file.exists()
    assert len(steps) == len(every) - stop  # no step is made again
    assert found.diagnostics.report == whole.diagnostics.report
    assert found.stats.denoiser_calls == whole.stats.denoiser_calls


def test_a_smaller_batch_begins_its_part_anew(tmp_path, always):
    operator, prior = SOLVES["mask"](), _network(True)
    y, file = measured(operator), tmp_path / "kept.walk"
    settings = {"num_samples": 6, "steps": 5}
    with pytest.raises(StoppedError):
        ti.solve(y, operator, prior, callback=stop_after(3), checkpoint=file, **settings)
    found = ti.solve(y, operator, prior, checkpoint=file, batch_size=2, **settings)
    assert torch.equal(found.samples, ti.solve(y, operator, prior, **settings).samples)


def test_short_walks_write_nothing_and_finished_ones_leave_nothing(tmp_path):
    operator, prior = SOLVES["mask"](), _network(True)
    file = tmp_path / "kept.walk"

    def callback(step):
        assert not file.exists()

    ti.solve(measured(operator), operator, prior, steps=3, checkpoint=file, callback=callback)
    assert not list(tmp_path.iterdir())


def test_files_of_other_calls_are_refused_before_the_walk(tmp_path, always):
    operator, prior = SOLVES["mask"](), _network(True)
    y, file = measured(operator), tmp_path / "kept.walk"
    with pytest.raises(StoppedError):
        ti.solve(y, operator, prior, steps=6, callback=stop_after(2), checkpoint=file)
    other = ops.Mask(~operator.mask, noise=operator.noise)
    for name, change in {
        "seed": {"seed": 4},
        "noise": {"noise": 0.7},
        "steps": {"steps": 7},
        "num_samples": {"num_samples": 2},
        "walk": {"method": "langevin"},
        "y": {"y": y + 1},
        "content of the operator": {"operator": other},
        "dtype": {"y": y.double()},
        "prior_checksum": {"prior": _network(False)},
    }.items():
        given = {"y": y, "operator": operator, "prior": prior, "steps": 6, **change}
        with pytest.raises(ValueError, match=f"belongs to another call: .*{name}.*delete it"):
            ti.solve(checkpoint=file, **given)
        assert file.exists()


def _damaged(path):
    path.write_bytes(path.read_bytes()[:-40])


def _of_another_kind(path):
    save_file({"x": torch.zeros(1)}, path, metadata={"format": "other"})


def _of_no_kind(path):
    path.write_text("x")


def _of_an_unknown_class(path):
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["notes"] = header["notes"].replace("DecoupledState", "Nothing")
    save_file(tensors, path, metadata=header)


@pytest.mark.parametrize("spoil", [_damaged, _of_another_kind, _of_no_kind, _of_an_unknown_class])
def test_files_that_are_no_walk_are_refused(spoil, tmp_path):
    operator, prior = SOLVES["mask"](), _network(True)
    y, file = measured(operator), tmp_path / "step.walk"
    next(ti.iterate(y, operator, prior, steps=3)).save(file)
    with pytest.raises(ValueError, match=r"ti.iterate|of a step of"):
        ti.solve(y, operator, prior, steps=3, num_samples=1, checkpoint=file)
    spoil(file)
    with pytest.raises(
        ValueError, match=r"iterate: resume\(.*step.walk'\): (no safe|needs a walk|cannot)"
    ):
        ti.iterate(y, operator, prior, steps=3, resume=file)
    with pytest.raises(FileNotFoundError, match="needs a file, this is not there"):
        ti.iterate(y, operator, prior, steps=3, resume=tmp_path / "other")
    with pytest.raises(TypeError, match="needs a path"):
        ti.iterate(y, operator, prior, steps=3, resume=3)


@dataclass(frozen=True)
class Odd(ti.walks.Langevin):
    """A walk of a user, whose state no file holds."""

    def portable(self, state):
        return {"x": state.x}


def test_what_could_not_be_kept_is_told_at_the_first_step_and_not_after_a_minute(tmp_path):
    operator, prior, steps = SOLVES["mask"](), _network(True), []
    settings = {"steps": 6, "num_samples": 2, "callback": steps.append}
    with pytest.raises(TypeError, match="NamedTuples, tensors and numbers, got dict"):
        ti.solve(
            measured(operator), operator, prior, method=Odd(), checkpoint=tmp_path / "a", **settings
        )
    assert len(steps) == 1
    spread = SimpleNamespace(walk=SimpleNamespace(communicator=SimpleNamespace(size=2)))
    with pytest.raises(ValueError, match="spread over processes"):
        checkpoint.Keeper(tmp_path / "a", spread)


def test_a_disk_that_is_full_does_not_end_the_walk(tmp_path, always, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    operator, prior = SOLVES["mask"](), _network(True)
    y, settings = measured(operator), {"steps": 4, "num_samples": 2}
    whole = ti.solve(y, operator, prior, **settings)
    monkeypatch.setattr(checkpoint.tensor_file, "write", full)
    with pytest.warns(RuntimeWarning, match="could not be written .*No space.*walks on"):
        found = ti.solve(y, operator, prior, checkpoint=tmp_path / "a", **settings)
    assert torch.equal(found.samples, whole.samples)


class Pair(NamedTuple):
    first: torch.Tensor
    rest: object = None


class TestTree:
    def test_a_value_comes_back(self):
        value = Pair(torch.arange(3), [1, 2.5, None, True, "a", (float("inf"), [])])
        tensors, note = tree.flattened(value)
        back = tree.rebuilt(tensors, json.loads(json.dumps(note)))
        assert isinstance(back, Pair)
        assert torch.equal(back.first, value.first)
        assert back.rest == value.rest

    def test_other_things_are_refused(self):
        with pytest.raises(TypeError, match="NamedTuples, tensors and numbers, got dict"):
            tree.flattened(Pair(torch.ones(1), {}))

    @pytest.mark.parametrize("kind", ["os:system", "subprocess:Popen", "no.module:Pair", "x"])
    def test_a_file_makes_nothing_but_named_tuples(self, kind):
        with pytest.raises(ValueError, match="not imported or no NamedTuple"):
            tree.rebuilt({}, {"kind": kind, "parts": ["x"]})


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_killed(tmp_path):
    """Once to the end, and once killed by the operating system after some steps."""
    (tmp_path / "instrument.py").write_text(
        "from tweedie_inverse import operators as ops\n"
        "mask = ops.Mask(ops.random_mask((1, 64, 64), 0.3), noise=ops.GaussianNoise(0.1))\n"
    )
    mask = ops.Mask(ops.random_mask((1, 64, 64), 0.3), noise=ops.GaussianNoise(0.1))
    np.save(tmp_path / "y.npy", mask.measure(torch.full((1, 1, 64, 64), 0.3))[0].numpy())
    command = ["solve", "y.npy", "--operator", "instrument.py:mask", "--prior", "phantom-64"]
    command += ["--samples", "2", "--steps", "6", "--out"]
    program = (
        "import os, sys\n"
        "from tweedie_inverse.solving import checkpoint\n"
        "checkpoint._EVERY = 0.0\n"
        "keep, kill = checkpoint.Keeper.keep, int(sys.argv.pop(1))\n"
        "made = []\n"
        "def kept(self, saved):\n"
        "    keep(self, saved)\n"
        "    if saved.underway is None: return  # all samples, until they are written\n"
        "    made.append(saved.underway.step)\n"
        "    if len(made) == kill: os._exit(9)\n"
        "checkpoint.Keeper.keep = kept\n"
        "from tweedie_inverse.__main__ import main\n"
        "main()\n"
        "print('kept', made)\n"
    )

    def run(kill, out):
        return subprocess.run(
            [sys.executable, "-c", program, str(kill), *command, out],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    whole = run(0, "whole.safetensors")
    assert whole.returncode == 0, whole.stderr
    assert run(2, "killed.safetensors").returncode == 9
    assert (tmp_path / "killed.walk").exists()
    again = run(0, "killed.safetensors")
    assert again.returncode == 0, again.stderr
    assert "goes on from killed.walk" in again.stdout
    assert "kept [2" in again.stdout
    assert not (tmp_path / "killed.walk").exists()
    samples = [
        ti.Posterior.load(tmp_path / f"{name}.safetensors").samples for name in ("whole", "killed")
    ]
    assert torch.equal(*samples)
