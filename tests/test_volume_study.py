"""The parts of the study of volumes, and of the example of a brain, that decide their figures."""

import argparse
import runpy
from pathlib import Path

import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.methods.registry import METHODS
from tweedie_inverse.benchmarks.studies import volumes
from tweedie_inverse.benchmarks.studies.volume_methods import (
    Answers,
    _divergence,
    _gradient,
    backprojected,
    case,
    of_deepinv,
    total_variation,
)
from tweedie_inverse.benchmarks.studies.volume_sections import draw_sections, sections
from tweedie_inverse.numerics.random import normal

EXAMPLE = Path(__file__).parent.parent / "examples" / "brain_volume.py"


@pytest.fixture(scope="module")
def body():
    """Two bodies of three slices, seen from 20 views."""
    return case(64, 3, bodies=2, samples=2, steps=2, evaluations=2)


def test_the_gradient_and_its_transpose():
    x, slopes = normal((1,), (2, 1, 3, 5, 4)), normal((2,), (3, 2, 1, 3, 5, 4))
    forth = float((_gradient(x) * slopes).sum())
    assert forth == pytest.approx(-float((x * _divergence(slopes)).sum()), rel=1e-5)
    ramp = 2.0 * torch.arange(3.0).reshape(1, 1, 3, 1, 1).expand(1, 1, 3, 5, 4)
    assert float(_gradient(ramp).norm(dim=0).sum()) == 2.0 * 2 * 20


def test_total_variation_finds_the_minimum():
    """Of two pixels that are each seen: what is known on paper, at weights below and above."""
    shape = (1, 1, 1, 2)
    scan = ops.Mask(torch.ones(shape), noise=ops.GaussianNoise(1.0))
    y = torch.tensor([1.0, 3.0]).reshape(1, *shape)
    # Each is drawn towards the other by the weight, until they meet in the middle.
    for weight, expected in ((0.25, [1.25, 2.75]), (4.0, [2.0, 2.0])):
        found = total_variation(scan, y, weight).flatten()
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_row_of_the_truth_is_perfect(body):
    """With samples that are the truth, and for a method that answers once."""
    exact = body.truths[:, None]
    twice = volumes._row("truth", Answers(exact.expand(-1, 2, *exact.shape[2:]), 3), body, 1.0)
    assert (twice.crps, twice.covered, twice.flicker, twice.flicker_of_mean) == (0, 1, 1, 1)
    assert twice.chi_square == pytest.approx(1.0, abs=5 / (0.5 * body.y.numel()) ** 0.5)
    once = volumes._row("zero", Answers(0 * exact, 3), body, 1.0)
    assert once.crps == pytest.approx(float(exact.mean()), rel=1e-5)
    assert str(once).count("|") == volumes.HEAD.splitlines()[0].count("|")
    assert " |  |  | 0.00 |" in str(once)  # no interval and no sample of a single answer


def test_slices_stay_in_their_places(body):
    """Methods of images have every slice by itself, and give the volumes back."""
    answers = of_deepinv(body, [METHODS["pseudo-inverse"]])
    assert torch.equal(answers.samples, backprojected(body).samples)


def test_rows_are_chosen_by_name():
    assert volumes.chosen("slices, dps") == ("slices", "dps")
    with pytest.raises(argparse.ArgumentTypeError, match="'sclices' is no row; choose among sl"):
        volumes.chosen("sclices")


def test_methods_whose_package_is_absent_are_left_out(body, monkeypatch, capsys):
    monkeypatch.setattr(volumes, "is_absent", lambda method: "deepinv")
    found = [name for name, *_ in volumes.rows(body, ("dps", "backprojection"))]
    assert found == ["backprojection"]
    assert capsys.readouterr().out == "dps: left out, deepinv is not installed\n"


def test_sections_go_through_the_middle(tmp_path):
    volume = normal((1,), (1, 4, 6, 8))
    axial, coronal, sagittal = sections(volume)
    assert torch.equal(axial, volume[0, 2])
    assert torch.equal(coronal, volume[0, :, 3])
    assert torch.equal(sagittal, volume[0, :, :, 4])
    draw_sections({"truth": volume, "a sample": volume}, tmp_path / "new" / "x.png", 1.5)
    assert (tmp_path / "new" / "x.png").stat().st_size > 2000


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def scene(example):
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (20, 64, 64)], indexing="ij")
    ball = ((z**2 + y**2 + 1.5 * x**2) < 0.6).float() * (0.7 + 0.3 * torch.cos(9 * y))
    image, coils = example["simulated"](ball)
    return image, coils, example["sampled"](tuple(ball.shape))


class TestBrain:
    def test_a_quarter_is_sampled_and_the_middle_whole(self, scene):
        *_, mask = scene
        assert float(mask.float().mean()) == pytest.approx(0.25, abs=1e-3)
        assert bool(mask[:, 20:44, 20:44].all())
        assert torch.equal(mask[0], mask[-1])

    def test_the_phase_goes_into_the_coils(self, example, scene):
        """What the middle of k-space shows leaves a real image, and fits the data."""
        image, coils, mask = scene
        scan = ops.FourierSampling(mask, coils=coils, noise=ops.GaussianNoise(0.02))
        found = example["turned_coils"](scan.measure(image, seed=0))
        left = (found.conj() * coils).sum(0) * image
        inside = image.abs() > 0.2
        assert float(left.imag[inside].square().mean().sqrt()) < 0.03
        assert float((left.real - image.abs())[inside].abs().mean()) < 0.005
        assert float((found * left - coils * image).abs().square().mean()) < 0.1 * 2 * 0.02**2

    def test_templates_from_files(self, example, tmp_path):
        import numpy as np

        np.savez(
            tmp_path / "t1.npz", template=np.arange(4 * 70 * 50, dtype=np.uint16).reshape(4, 70, 50)
        )
        found = example["brain"](1, str(tmp_path / "t1.npz"))
        assert found.shape == (4, 80, 64)
        assert (float(found.min()), float(found.max())) == (0.0, 1.0)
        np.save(tmp_path / "t1.npy", np.ones((70, 50)))
        with pytest.raises(
            ValueError, match=r"a volume \(depth, height, width\).*got shape \(70, 50\)"
        ):
            example["brain"](1, str(tmp_path / "t1.npy"))
