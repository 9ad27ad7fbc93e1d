"""Bad inputs: posteriors, scores, pictures, training, benchmarks."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import tweedie_inverse as ti
from tests.bad_inputs import (
    FIELD,
    IMAGE,
    PICTURE,
    POSTERIOR,
    SUITE,
    Y,
    exact,
    network,
)
from tweedie_inverse.benchmarks.harness.commands import main
from tweedie_inverse.benchmarks.harness.plan import Plan
from tweedie_inverse.evaluation.metrics import psnr
from tweedie_inverse.training.config import TrainingConfig

TABLE = [
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE[0]),
        (
            "coverage(truth=): needs the shape of the posterior's mean, (1, 8, 8), got (8, 8); a "
            "single one needs batch and channel axes too, such as x[None, None]"
        ),
    ),
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE * math.nan),
        ("coverage(truth=): holds 64 NaN or infinite entries of 64, the first at index (0, 0, 0)"),
    ),
    (
        lambda: ti.calibration.coverage(POSTERIOR, IMAGE, level=2),
        ("interval(level=2): needs a share between 0 and 1, such as 0.9"),
    ),
    (
        lambda: ti.calibration.crps(POSTERIOR, IMAGE[None]),
        ("crps(truth=): needs the shape of the posterior's mean, (1, 8, 8), got (1, 1, 8, 8)"),
    ),
    (
        lambda: psnr(IMAGE[None], IMAGE[0]),
        (
            "psnr: needs images (count, *shape) and a truth like them or (*shape), got (1, 1, 8, "
            "8) and (8, 8)"
        ),
    ),
    (
        lambda: ti.as_image(PICTURE, value_range=(0, 0)),
        ("as_image(value_range=(0, 0)): black and white must differ"),
    ),
    (
        lambda: ti.as_image(PICTURE / 255, value_range=(0, 1)),
        (
            "as_image: black and white of torch.float64 are not known; give input_range=, such as"
            " (0, 1)"
        ),
    ),
    (
        lambda: ti.as_image(PICTURE / 255, value_range=(0, 1), input_range=(0, 0.1)),
        (
            "as_image(input_range=(0, 0.1)): the picture goes from 0.784314 to 0.784314, outside "
            "that range"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((3, 5, 3), np.uint8), value_range=(0, 1)),
        (
            "as_image: (3, 5, 3) may have its channels first or last; say channels='first' or "
            "channels='last'"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((2, 8, 8, 3), np.uint8), value_range=(0, 1)),
        (
            "as_image: needs one picture (height, width), (height, width, channels) or (channels,"
            " height, width) of 1, 3 or 4 channels, got (2, 8, 8, 3); several are "
            "torch.stack([ti.as_image(...), ...])"
        ),
    ),
    (
        lambda: ti.as_image(Image.new("RGBA", (8, 8)), value_range=(0, 1)),
        (
            "as_image: a picture of mode 'RGBA' holds more than brightnesses (opacity, a "
            "palette); convert it first, such as picture.convert('RGB')"
        ),
    ),
    (
        lambda: ti.as_image(np.zeros((8, 8), complex), value_range=(0, 1)),
        (
            "as_image(array=): got complex numbers, which have no black and white; give their "
            "real and imaginary parts as two channels"
        ),
    ),
    (
        lambda: ti.as_image("photo.png", value_range=(0, 1)),
        ("as_image(array=): needs a tensor or an array of numbers, got str"),
    ),
    (
        lambda: TrainingConfig(average=math.nan),
        ("TrainingConfig(average=nan): needs a number in [0, 1)"),
    ),
    (
        lambda: TrainingConfig(warmup=-1),
        ("TrainingConfig(warmup=-1): needs a whole number of at least 0"),
    ),
    (
        lambda: TrainingConfig(steps=0),
        ("TrainingConfig(steps=0): needs a whole number of at least 1"),
    ),
    (
        lambda: TrainingConfig(batch=1.5),
        ("TrainingConfig(batch=1.5): needs a whole number of at least 1"),
    ),
    (
        lambda: TrainingConfig(seed=-1),
        ("TrainingConfig(seed=-1): needs a whole number from 0 to 2**64 - 1"),
    ),
    (
        lambda: TrainingConfig(widths=(8,), blocks=(1, 1)),
        ("TrainingConfig: widths (8,) and blocks (1, 1) need equally many entries"),
    ),
    (
        lambda: Plan(SUITE, images=0),
        ("benchmarks(images=0): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, samples=0),
        ("benchmarks(samples=0): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, together=-1),
        ("benchmarks(together=-1): needs a whole number of at least 1"),
    ),
    (
        lambda: Plan(SUITE, cap=0),
        ("benchmarks(cap=0): needs a whole number of at least 1"),
    ),
    (
        lambda: ti.guidance.given(FIELD, 1),
        ("given(prior=): needs a prior made of one network, got Gaussian"),
    ),
    (
        lambda: ti.guidance.given(network(torch.add), 0.7),
        ("given(label=0.7): needs the number of a class, from 0 on, a whole number"),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(FIELD, None, 1, 1.0),
        (
            "ClassifierGuided(classifier=None): needs a function (images, sigma) to "
            "logarithms of probabilities (batch, classes)"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(FIELD, lambda x, s: x[:, 0, 0, :1], 3, 1.0).denoise(
            Y, 1.0
        ),
        (
            "ClassifierGuided: the classifier must return finite numbers (2, classes), 4 "
            "classes or more; it returned (2, 1)"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierGuided(
            FIELD, lambda x, s: torch.zeros(len(x), 4), 3, 1.0
        ).denoise(Y, 1.0),
        (
            "ClassifierGuided: the classifier's answer has no gradient with respect to the "
            "image; it must compute it with torch, without detach() and no_grad()"
        ),
    ),
    (
        lambda: ti.guidance.ClassifierFree(FIELD, "a", 1.0),
        ("ClassifierFree(unconditional=): needs a prior, got str"),
    ),
    (
        lambda: ti.tweedie.score_from_denoised(Y, Y[:1], 1.0),
        ("tweedie: needs images of one shape, got (2, 1, 8, 8) and (1, 1, 8, 8)"),
    ),
    (
        lambda: ti.tweedie.denoised_from_v(Y, Y, torch.ones(8)),
        ("tweedie: sigma must be a number or one value an image, shape (2,); got shape (8,)"),
    ),
    (
        lambda: ti.tweedie.denoised_from_flow(Y, Y, "a"),
        ("tweedie(sigma='a'): needs a number"),
    ),
    (
        lambda: ti.calibration.coverage("p", IMAGE),
        ("coverage(posterior=): needs a posterior, such as ti.solve returns, got str"),
    ),
    (
        lambda: ti.calibration.crps(POSTERIOR, (255 * IMAGE).byte()),
        (
            "crps(truth=): needs float32 or float64, got torch.uint8; for a picture of 0 "
            "to 255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: ti.calibration.sliced_wasserstein(Y, Y, slices=1.5),
        ("sliced_wasserstein(slices=1.5): needs at least 1, a whole number"),
    ),
    (
        lambda: POSTERIOR["a"],
        ("posterior['a']: needs the number of a measurement, or a slice of them"),
    ),
    (
        lambda: POSTERIOR.quantile(None),
        ("quantile(q=): needs a tensor or an array of numbers, got NoneType"),
    ),
    (
        lambda: POSTERIOR.quantile([0.1, 90]),
        ("quantile(q=90): needs numbers in [0, 1]"),
    ),
    (
        lambda: POSTERIOR.quantile(np.array([0.1, 0.9])),
        (
            "quantile(q=[0.1 0.9]): needs a number in [0, 1], or one for each of 1 measurements; a "
            "list asks for several of all"
        ),
    ),
    (
        lambda: POSTERIOR.probability(3),
        (
            "probability(event): needs a function of images (walkers, *shape), such as "
            "lambda x: x > 0.5, got int"
        ),
    ),
    (
        lambda: POSTERIOR.save(3),
        ("save(path=3): needs a path"),
    ),
    (
        lambda: POSTERIOR.plot(truth=(255 * IMAGE).byte()),
        (
            "plot(truth=): needs float32 or float64, got torch.uint8; for a picture of 0 "
            "to 255, ti.as_image(array, value_range=(low, high)) makes an image of it"
        ),
    ),
    (
        lambda: POSTERIOR.plot(measurement=torch.zeros(3, 3)),
        ("plot(measurement=): needs shape (1, 8, 8), as solve took it, got (3, 3)"),
    ),
    (
        lambda: ti.Posterior.concatenate([POSTERIOR, "a"]),
        ("concatenate(posteriors=): needs a list of posteriors, got str"),
    ),
]


@pytest.mark.parametrize(("call", "sentence"), TABLE, ids=range(len(TABLE)))
def test_a_bad_input_gets_its_sentence(call, sentence):
    exact(call, sentence)


def test_no_row_is_lost():
    assert len(TABLE) >= 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "field", "--images", "0"], "benchmarks(images=0): needs a whole number of"),
        (["run", "field", "--cap", "0"], "benchmarks(cap=0): needs a whole number of at least 1"),
        (["run", "field", "--together", "-1"], "benchmarks(together=-1): needs a whole number"),
        (["run", "field", "--threads", "0"], "benchmarks(threads=0): needs a whole number of"),
        (["run", "mixture", "--samples", "0"], "benchmarks(samples=0): needs a whole number of"),
        (["run", "field", "--tasks", "blur", "typo"], "--tasks: field has random inpainting, blur"),
        (["tune", "field", "--candidates", "0"], "benchmarks(candidates=0): needs a whole number"),
    ],
)
def test_the_command_line_refuses_before_any_work(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
