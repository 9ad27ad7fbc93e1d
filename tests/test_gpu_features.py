"""On an accelerator everything that a user calls works on data that are there."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.datasets.volumes import CTVolumes
from tweedie_inverse.training.config import TrainingConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning"),
]
SHAPE = (1, 64, 64)
NOISE = ops.GaussianNoise(0.02)


def image() -> torch.Tensor:
    return CTSlices(64).images([HELD_OUT_SEED])[0].cuda()


@pytest.mark.parametrize("name", ["ct", "mri", "counts", "inpainting"])
def test_an_example_and_its_page(name, tmp_path):
    y, operator, prior, truth, _ = ti.example(name, device="cuda")
    posterior = ti.solve(y, operator, prior, num_samples=3, steps=6)
    assert posterior.samples.is_cuda
    assert posterior.report(tmp_path / "page.html", truth=truth).stat().st_size > 10_000
    posterior.plot(str(tmp_path / "picture.png"), truth=truth)
    posterior.save(tmp_path / "posterior.safetensors")
    low, high = posterior.interval(0.9)
    assert (low <= high).all()


def test_a_prior_by_name_goes_where_y_is():
    blur = ops.Blur(ops.gaussian_kernel(1.0), SHAPE, noise=NOISE)
    posterior = ti.solve(blur.measure(image(), seed=0), blur, "phantom-64", num_samples=2, steps=4)
    assert posterior.samples.is_cuda
    prior = ti.load_prior("phantom-64").to("cuda")
    assert prior.device.type == "cuda"
    assert ti.sample(prior, 2, steps=4, device="cuda").is_cuda


@pytest.mark.parametrize("padding", ["circular", "zero"])
def test_an_instrument_that_is_not_known(padding):
    def blur(width):
        return ops.Blur(ops.gaussian_kernel(width, size=15), SHAPE, padding=padding, noise=NOISE)

    y = blur(1.2).measure(image(), seed=0)
    operator = ops.parametric(blur, width=(0.5, 3.0))
    posterior = ti.solve(y, operator, "phantom-64", noise="estimate", num_samples=4, steps=10)
    assert 0.5 < float(posterior.parameters["width"].mean) < 3
    assert 0 < float(posterior.noise.std.mean) < 1


def test_scan_with_an_unknown_offset_and_a_free_kernel():
    def scan(offset):
        return ops.Tomography(SHAPE, 12, detector_offset=offset, noise=ops.GaussianNoise(0.5))

    operator = ops.parametric(scan, offset=(-2.0, 2.0))
    y = scan(1.0).measure(image(), seed=0)
    ti.solve(y, operator, "phantom-64", num_samples=2, steps=6)
    blind = ops.BlindBlur(SHAPE, size=7, noise=NOISE)
    y = ops.Blur(ops.gaussian_kernel(1.0), SHAPE, noise=NOISE).measure(image(), seed=0)
    ti.solve(y, blind, "phantom-64", num_samples=2, steps=6)


def test_unknown_gain_of_counts():
    blur = ops.Blur(ops.gaussian_kernel(1.0), SHAPE, noise=ops.PoissonNoise(0.01))
    y = blur.measure(image(), seed=0)
    noise = ops.PoissonNoise.unknown((0.001, 0.1))
    ti.solve(y, blur, "phantom-64", noise=noise, num_samples=2, steps=5)


def test_volumes_and_complex_images():
    x = CTVolumes(size=64, depth=4).volumes([1])[0].cuda()
    scan = ops.slicewise(ops.Tomography(SHAPE, 12, noise=ops.GaussianNoise(0.5)), depth=4)
    prior = ti.priors.Slices(ti.load_prior("phantom-64", device="cuda"), depth=4, correlation=2.0)
    posterior = ti.solve(scan.measure(x, seed=0), scan, prior, num_samples=2, steps=5)
    assert posterior.samples.shape == (2, *x.shape)
    mask = ops.cartesian_mask((64, 64), 3, centre=0.15)
    coil = ops.FourierSampling(mask, noise=NOISE)
    phase = 0.5 * torch.ones(64, 64)
    y = coil.measure(torch.polar(image()[0], phase.cuda()), seed=0)
    magnitudes = ti.load_prior("phantom-64", device="cuda")
    for found in (phase, ops.estimate_phase(y, coil)):
        prior = ti.priors.Complex(magnitudes, phase=found, imaginary=0.03)
        assert ti.solve(y, coil, prior, num_samples=2, steps=5).samples.is_cuda


def test_calibration_and_fit(tmp_path):
    mask = ops.Mask(ops.random_mask(SHAPE, 0.3, seed=1), noise=NOISE)
    prior = ti.load_prior("phantom-64", device="cuda")
    found = ti.calibrate(mask, prior, count=20, num_samples=5, steps=4)
    assert 0 <= float(found.p_value) <= 1
    y = mask.measure(image(), seed=0)
    ti.check_fit(y, mask, prior, count=19, steps=4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_images(precision, tmp_path):
    images = CTSlices(64).images(range(48))
    prior = ti.train(
        images, tmp_path / "run", start="texture-64", steps=6, batch=8, held_out=16,
        config=TrainingConfig(precision=precision), device="cuda", progress=False,
    )  # fmt: skip
    assert torch.isfinite(prior.to("cuda").denoise(images[:2].cuda(), 0.3)).all()
