"""`ti.train` and `tweedie-inverse train --data FOLDER`: from images to a prior that is loaded."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import tweedie_inverse as ti
from tests.seeds import salted
from tweedie_inverse.app.cli import main
from tweedie_inverse.datasets.ellipses import EllipsePhantoms
from tweedie_inverse.training import export as exporting
from tweedie_inverse.training import watch
from tweedie_inverse.training.checkpoint import load_run
from tweedie_inverse.training.checks import LEVELS, Check, judge
from tweedie_inverse.training.config import TrainingConfig, learning_rate
from tweedie_inverse.training.own import start_of
from tweedie_inverse.training.start import fitted_to_start

SIZES = {"widths": (8, 16), "blocks": (1, 1)}
CONFIG = TrainingConfig(size=16, batch=4, steps=4, warmup=2, **SIZES)


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """The denoising error at 2 levels instead of 24, and pictures in one test only."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(watch, "draw_curves", lambda *given: None)
        monkeypatch.setattr(watch.Watch, "_draw_samples", lambda *given: None)
    measure = exporting.measure_denoising_error

    def quickly(prior, images, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # networks of a few steps are of no use
            return measure(prior, images, levels=2, **settings)

    monkeypatch.setattr(exporting, "measure_denoising_error", quickly)


@pytest.fixture
def drawn():
    """Pictures are drawn in tests that ask for this."""


@pytest.fixture(scope="module")
def phantoms():
    return EllipsePhantoms(18).images(range(40))


def folder_of(images, folder):
    pil = pytest.importorskip("PIL.Image")
    folder.mkdir()
    for number, image in enumerate(images):
        pixels = (255 * image).byte().numpy()
        pil.fromarray(pixels[0]).save(folder / f"{number:03d}.png")
    return folder


def command(out, data, *more):
    sizes = ["--size", "16", "--batch", "4", "--widths", "8", "16", "--blocks", "1", "1"]
    return ["train", str(out), "--data", str(data), "--start", "none", *sizes, *more]


def assert_same_network(one, other):
    """The runs in two folders have ended with the same weights."""
    found, wanted = (load_run(folder).task.prior.module.state_dict() for folder in (one, other))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.usefixtures("drawn")
def test_images_become_a_prior(phantoms, tmp_path, capsys):
    prior = ti.train(phantoms, tmp_path / "mine", start=None, config=CONFIG, licence="CC0")
    assert prior.shape == (1, 16, 16)
    assert prior.name == "mine"
    assert prior.error is not None
    told = capsys.readouterr().out
    assert "40 grey images in an array, 18x18 pixels" in told
    assert "16 of them are held out, 24 are trained on" in told
    for name in ("samples.png", "loss.png", "images.json", "checkpoint.pt"):
        assert (tmp_path / "mine" / name).stat().st_size > 1000
    card = (tmp_path / "mine" / "mine.md").read_text()
    for words in ("16 of them are held out", "value 0 becomes 0", "SHA-256", "CC0.  Not for"):
        assert words in card
    assert bool(prior.denoise(phantoms[:2, :, :16, :16], 0.1).isfinite().all())


def test_arrays_folders_and_data_sets_train_the_same_network(phantoms, tmp_path):
    """The files hold the array's values rounded to bytes, under other names: other crops."""
    settings = {"start": None, "config": CONFIG, "progress": False}
    ti.train(phantoms, tmp_path / "a", **settings)
    ti.train(TensorDataset(phantoms, torch.zeros(40)), tmp_path / "b", **settings)
    assert_same_network(tmp_path / "b", tmp_path / "a")
    folder = folder_of(phantoms, tmp_path / "pictures")
    prior = ti.train(folder, tmp_path / "c", **settings)
    main(command(tmp_path / "d", folder, "--steps", "4", "--warmup", "2"))
    assert_same_network(tmp_path / "d", tmp_path / "c")
    assert prior.fully_convolutional is False  # crops of nearly the whole image


def test_a_stopped_run_goes_on_and_notices_other_images(phantoms, tmp_path, capsys):
    folder = folder_of(phantoms, tmp_path / "pictures")
    main(command(tmp_path / "a", folder, "--steps", "2", "--warmup", "0", "--cooldown", "0"))
    main(command(tmp_path / "a", folder, "--steps", "5", "--warmup", "0", "--cooldown", "0"))
    main(command(tmp_path / "b", folder, "--steps", "5", "--warmup", "0", "--cooldown", "0"))
    assert_same_network(tmp_path / "b", tmp_path / "a")
    moved = folder.rename(tmp_path / "elsewhere")
    main(command(tmp_path / "a", moved, "--steps", "6", "--warmup", "0", "--cooldown", "0"))
    next(iter(moved.glob("*.png"))).unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(command(tmp_path / "a", moved, "--steps", "7", "--warmup", "0", "--cooldown", "0"))
    told = capsys.readouterr().err
    assert "the images have changed since the run" in told
    assert "40 grey images" in told
    assert "39 grey images" in told
    with pytest.raises(SystemExit, match="2"):
        main(command(tmp_path / "a", moved, "--steps", "7", "--rate", "1"))
    assert "other settings (rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--start", "photo-64"], "its architecture is another"),
        (["--steps", "3", "--minutes", "1"], "give one of them"),
        (["--check-every", "-1"], "0 or more steps"),
        (["--value-range", "1", "0"], "needs low < high"),
        (["--conditional"], "have no classes"),
        (["--resize", "9"], "need a resize of 16 or more"),
        (["--batch", "0"], "whole number"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    more, message, phantoms, tmp_path, capsys
):
    folder = folder_of(phantoms, tmp_path / "pictures")
    with pytest.raises(SystemExit, match="2"):
        main(command(tmp_path / "out", folder, *more))
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_a_start_must_fit_the_colours():
    assert start_of("auto", 1) == "texture-64"
    assert start_of("auto", 3) == "photo-64"
    assert start_of("none", 3) == start_of(None, 1) == ""
    for start, channels in (("texture-64", 1), ("photo-64", 3), ("photo-64", 1)):
        assert not fitted_to_start(TrainingConfig(start=start), channels).attention
    assert fitted_to_start(TrainingConfig(start="phantom-64"), 1).attention
    with pytest.raises(
        ValueError, match="of grey images, these are colour images: start from photo"
    ):
        fitted_to_start(TrainingConfig(start="texture-64"), 3)
    with pytest.raises(ValueError, match=r"architecture is another.*--start none"):
        fitted_to_start(
            TrainingConfig(start="texture-64", attention=True, widths=(8, 16), blocks=(1, 1)), 1
        )
    with pytest.raises(ValueError, match="2 channels; say start=None"):
        start_of("auto", 2)


def test_a_start_is_where_the_run_begins(phantoms, tmp_path):
    settings = {"config": CONFIG, "progress": False}
    ti.train(phantoms, tmp_path / "a", start=None, **settings)
    trained = tmp_path / "a" / "a.safetensors"
    ti.train(phantoms, tmp_path / "b", start=str(trained), steps=1, **settings)
    first = Check(**load_run(tmp_path / "b").record["checks"][0])
    last = Check(**load_run(tmp_path / "a").record["checks"][-1])
    np.testing.assert_allclose(first.held_out, last.held_out, rtol=0.02)  # stored in half precision
    assert load_run(tmp_path / "b").config.start == str(trained)
    assert "| start | a |" in (tmp_path / "b" / "b.md").read_text()


def test_a_run_ends_by_the_clock(phantoms, tmp_path, monkeypatch):
    from tweedie_inverse.training import run as module

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    advance = module.Run.advance

    def slowly(self):
        now[0] += 20.0
        return advance(self)

    monkeypatch.setattr(module.Run, "advance", slowly)
    settings = {"start": None, "config": CONFIG, "progress": False}
    ti.train(phantoms, tmp_path / "a", minutes=2, **settings)
    assert load_run(tmp_path / "a").record["step"] == 6
    ti.train(phantoms, tmp_path / "a", minutes=3, **settings)
    assert load_run(tmp_path / "a").record["step"] == 9


def test_the_rate_falls_with_the_clock():
    config = replace(CONFIG, minutes=10.0, warmup=0, cooldown=0.5)
    rates = [learning_rate(config, 100, done) / config.rate for done in (0.0, 0.5, 0.75, 1.0, 1.1)]
    assert rates == [1, 1, 0.5, 0, 0]


def test_learning_by_heart_is_said():
    draws = torch.Generator().manual_seed(salted(0))
    images = torch.randn(32, generator=draws)

    def check(step, trained, held_out, jitter=0.02):
        each = images + held_out + jitter * torch.randn(32, generator=draws)
        errors = [float(np.exp(trained))] * len(LEVELS)
        return Check(step, errors, errors, each.tolist())

    start, best = check(0, 0.0, 0.0), check(250, -0.2, -0.2)
    assert judge([start]) == judge([start, best]) == ""
    assert judge([start, best, check(500, -0.3, -0.25)]) == ""
    assert judge([start, best, check(500, -0.3, -0.199)]) == ""
    by_heart = judge([start, best, check(500, -0.4, -0.1)])
    assert "above that of step 250" in by_heart
    assert "on training images it fell by 20.0%: the network learns its images by heart" in by_heart
    assert "the rate may be too high" in judge([start, best, check(500, 0.1, 0.1)])
    # As large a rise that differs from image to image by far more is chance.
    assert judge([start, best, check(500, -0.4, -0.17, jitter=0.5)]) == ""


@pytest.mark.slow
def test_few_images_are_learned_by_heart(tmp_path):
    """24 random images, whose held-out kind has nothing in common with them but the statistics."""
    noise = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(salted(5)))
    config = TrainingConfig(
        size=8, batch=24, steps=400, rate=4e-3, warmup=10, widths=(32, 64), blocks=(2, 2)
    )
    ti.train(noise, tmp_path / "a", start=None, config=config, progress=False)
    last = Check(**load_run(tmp_path / "a").record["checks"][-1])
    assert "learns its images by heart" in last.warning
    assert "learns its images by heart" in (tmp_path / "a" / "a.md").read_text()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_about_the_same(precision, phantoms, tmp_path):
    settings = {"start": None, "progress": False}
    ti.train(phantoms, tmp_path / "a", config=CONFIG, **settings)
    ti.train(phantoms, tmp_path / "b", config=replace(CONFIG, precision=precision), **settings)
    (step, exact), (_, reduced) = (load_run(tmp_path / n).record["history"][-1] for n in "ab")
    assert step == 4
    assert exact != reduced
    assert abs(exact - reduced) < 0.05 * exact
    assert ("scaler" in torch.load(tmp_path / "b" / "checkpoint.pt")) == (precision == "fp16")


def test_half_precision_passes_over_gradients_that_overflow(phantoms, tmp_path, monkeypatch):
    """The first steps at too large a scale change nothing, and the scale falls."""
    from tweedie_inverse.training import precision, run

    def large(kind, device):
        return torch.amp.GradScaler("cpu", init_scale=2.0**30, enabled=kind == "fp16")

    monkeypatch.setattr(run, "loss_scaler", large)
    config = replace(CONFIG, precision="fp16", steps=3)
    ti.train(phantoms, tmp_path / "a", start=None, config=config, progress=False)
    state = torch.load(tmp_path / "a" / "checkpoint.pt")
    assert state["scaler"]["scale"] < 2.0**30
    assert all(bool(value.isfinite().all()) for value in state["network"].values())
    assert state["scaler"]["scale"] > precision.LEAST_SCALE


def test_an_old_checkpoint_says_its_precision_otherwise(phantoms, tmp_path):
    from tweedie_inverse.training.checkpoint import _settings

    assert _settings({"config": '{"bfloat16": true}'})["precision"] == "bf16"
    assert _settings({"config": '{"bfloat16": false}'})["precision"] == "fp32"
    assert _settings({"config": "{}"})["average"] == TrainingConfig().average


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 3}, "needs an array, a folder, or a data set"),
        ({"steps": 3, "minutes": 1.0}, "give one of them"),
        ({"config": {}}, "needs a TrainingConfig"),
        ({"device": "nowhere"}, "no such device"),
        ({"progress": 1}, "needs True or False"),
        ({"name": "a/b"}, "without folders"),
        ({"value_range": (1, 1)}, "low < high"),
    ],
)
def test_wrong_arguments(arguments, message, phantoms, tmp_path):
    given = {"images": phantoms, "config": CONFIG, **arguments}
    with pytest.raises((ValueError, TypeError), match=message):
        ti.train(given.pop("images"), tmp_path / "out", **given)


def test_an_unwritable_place_is_refused_first(phantoms, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="no file can be written in"):
        ti.train(phantoms, tmp_path / "file", config=CONFIG)
