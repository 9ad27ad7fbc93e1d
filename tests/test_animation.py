"""A walk as it is seen: films of it, a live picture and bars of progress in notebooks."""

import re
import shutil
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_solve_page import of_one
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.runtime import notebook
from tweedie_inverse.solving.frames import frame, limits_of, moment_of

Image = pytest.importorskip("PIL.Image")
FIELD = random_field(8)
MASK = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(0.2))
Y = MASK.measure(FIELD.draw(2, seed=1), seed=2)


def steps(count=6, **settings):
    return ti.iterate(Y[0], MASK, FIELD, num_samples=3, steps=count, **settings)


def frames_of(path):
    with Image.open(path) as film:
        found = []
        for place in range(film.n_frames):
            film.seek(place)
            pixels = np.asarray(film.convert("RGB")).astype(int)
            found.append((pixels, film.info["duration"]))
    return found


def test_a_film_shows_every_step_in_one_range(tmp_path):
    path = ti.animate(steps(), tmp_path / "new" / "walk.gif", frames_per_second=10)
    assert path == tmp_path / "new" / "walk.gif"
    found, walked = frames_of(path), [*steps()]
    assert len(found) == len(walked) == 6
    assert [duration for _, duration in found] == [100] * 5 + [800]
    limits = limits_of(moment_of("animate", walked[-1], 3))
    for (pixels, _), step in zip(found, walked, strict=True):
        exact = frame(moment_of("animate", step, 3), limits).astype(int)
        assert pixels.shape == exact.shape
        assert np.abs(pixels - exact).max() <= 3  # a palette of 256 colours
    # What is drawn is the image: below the line of text, and the state above it.
    low, high = limits
    denoised = (walked[-1].info.denoised[0, 0] - low) / (high - low)
    below = found[-1][0][18 + 132 : 18 + 132 + 128, 4:132, 0][8::16, 8::16]
    np.testing.assert_allclose(below / 255, denoised.clamp(0, 1), atol=0.02)


def test_some_steps_and_walkers_are_enough(tmp_path):
    path = ti.animate(steps(7), tmp_path / "walk.gif", every=3, samples=1)
    assert len(frames_of(path)) == 3  # 0, 3 and 6
    assert frames_of(path)[0][0].shape == (282, 132, 3)
    path = ti.animate(steps(8), tmp_path / "walk.gif", every=3, samples=9)
    assert len(frames_of(path)) == 4  # and the last one
    assert frames_of(path)[0][0].shape == (282, 396, 3)
    each = ops.per_image([MASK, MASK])
    parts = ti.iterate(Y, each, FIELD, num_samples=2, steps=3)
    assert len(frames_of(ti.animate(parts, tmp_path / "parts.gif"))) == 3


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 6, 5), (1, 3, 6, 5), (4, 300, 20)])
def test_images_of_any_kind_are_drawn(shape, tmp_path):
    prior = ti.priors.GaussianMixture(normal((1,), (2, *shape)), torch.ones(2), 0.5)
    path = ti.animate(ti.trajectory(prior, 2, steps=2), tmp_path / "walk.gif")
    pixels = frames_of(path)[-1][0]
    assert all(side % 2 == 0 for side in pixels.shape[:2])
    is_grey = bool((pixels[..., 0] == pixels[..., 2]).all())
    assert is_grey == (shape[0] != 3)


def test_what_cannot_be_filmed_is_refused_before_the_walk(tmp_path, monkeypatch):
    def walked():
        raise AssertionError("the walk began")
        yield

    monkeypatch.setattr(shutil, "which", lambda name: None)
    for name, settings, message in (
        ("walk.avi", {}, "suffix must be .gif or .mp4"),
        ("walk.mp4", {}, "needs the program ffmpeg, which was not found; install it, or write"),
        ("walk.gif", {"samples": 0}, "samples=0"),
        ("walk.gif", {"every": -1}, "every=-1"),
        ("walk.gif", {"frames_per_second": 0}, "frames_per_second=0"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=re.escape(message)):
            ti.animate(walked(), tmp_path / name, **settings)
    with pytest.raises(TypeError, match=r"needs the steps of a walk, as of ti.iterate"):
        ti.animate(3, tmp_path / "walk.gif")
    with pytest.raises(TypeError, match=r"needs steps of ti.iterate or ti.trajectory, got int"):
        ti.animate([1], tmp_path / "walk.gif")
    with pytest.raises(ValueError, match="there is no step"):
        ti.animate([], tmp_path / "walk.gif")
    line = ti.priors.GaussianMixture(normal((1,), (2, 5)), torch.ones(2), 0.5)
    with pytest.raises(ValueError, match=r"these are vectors of \(5,\)"):
        ti.animate(ti.trajectory(line, 2, steps=2), tmp_path / "walk.gif")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_a_film_for_players(tmp_path):
    path = ti.animate(steps(3), tmp_path / "walk.mp4", frames_per_second=10, samples=1)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-i", path, *raw], capture_output=True, check=True
    )
    pixels = np.frombuffer(done.stdout, dtype=np.uint8).reshape(-1, 282, 132, 3)
    assert len(pixels) == 2 + 8
    last = [*steps(3)][-1]
    moment = moment_of("animate", last, 1)
    exact = frame(moment, limits_of(moment))
    assert np.abs(pixels[-1].astype(int) - exact).mean() < 8


class Handle:
    def __init__(self, shown):
        self.shown = shown

    def update(self, picture):
        self.shown.append(("again", picture))


def pretend_notebook(monkeypatch, kernel=True):
    """An IPython that notes what it is asked to display."""
    shown = []

    def display(picture, display_id):
        shown.append(("first", picture))
        return Handle(shown)

    module, place = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    shell = types.SimpleNamespace(**({"kernel": object()} if kernel else {}))
    module.get_ipython, place.display = lambda: shell, display
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", place)
    return shown


def test_a_preview_passes_the_steps_on_and_draws_in_one_place(monkeypatch):
    exact = [step.x for step in steps()]
    monkeypatch.setitem(sys.modules, "IPython", None)
    for step, x in zip(ti.preview(steps()), exact, strict=True):
        assert torch.equal(step.x, x)
    shown = pretend_notebook(monkeypatch, kernel=False)
    assert len([*ti.preview(steps())]) == 6
    assert not shown
    shown = pretend_notebook(monkeypatch)
    for step, x in zip(ti.preview(steps(), every=2), exact, strict=True):
        assert torch.equal(step.x, x)
    assert [how for how, _ in shown] == ["first"] + 3 * ["again"]  # 0, 2, 4 and the last
    assert {picture.size for _, picture in shown} == {(396, 282)}
    with pytest.raises(ValueError, match="every=0"):
        ti.preview(steps(), every=0)
    with pytest.raises(TypeError, match="needs the steps of a walk"):
        ti.preview(3)


def test_progress_is_text_where_there_are_no_widgets(monkeypatch, capfd):
    pretend_notebook(monkeypatch)
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=3, progress=True)
    assert "6/6" in capfd.readouterr().err


@pytest.mark.parametrize("shape", [(3, 200, 200), (2, 16, 16), (1, 9, 16, 16), (9,)])
def test_a_notebook_gets_a_small_picture(shape, monkeypatch):
    answer = of_one(normal((1,), (4, *shape)))
    monkeypatch.setattr(type(answer), "interval", None)  # which costs more than the picture
    page = answer._repr_html_()
    assert len(page) < 100_000
    assert "Posterior(4 samples" in page
    assert page.count("<img ") == 1


def test_a_notebook_gets_a_picture_of_odd_posteriors():
    answer = of_one(torch.full((1, 1, 4, 4), torch.nan))
    batch = ti.Posterior.concatenate([answer, answer])._repr_html_()
    assert "The picture is of the first." in batch
    assert "data:image/png;base64," in batch
