"""The page of a solve: its numbers are those of the samples, and nothing else gets in or out."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.test_posterior import STATS
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.measured import Measured
from tweedie_inverse.solving.page.numbers import decoded, encoded
from tweedie_inverse.solving.page.reduction import MOST_NUMBERS, Reduction, as_volume
from tweedie_inverse.solving.page.words import code_of

SHAPE = (1, 8, 8)
FIELD = random_field(8)
MASK = ops.Mask(ops.random_mask(SHAPE, 0.5), noise=ops.GaussianNoise(0.2))
TRUTH = FIELD.draw(3, seed=1)
Y = MASK.measure(TRUTH, seed=2)
SOLVED = ti.solve(Y, MASK, FIELD, num_samples=5, steps=4, seed=7)
UNFIT = 'Unfit </script><script>alert("x")</script> & <b>bold</b>'


def of_one(samples):
    """One measurement, whatever the shape of its images."""
    size = torch.tensor(float(len(samples)))
    return ti.Posterior(samples, Diagnostics(torch.ones(len(samples)), size), STATS)


class Page(HTMLParser):
    """What a page asks for, its data by name, and its text."""

    def __init__(self, path):
        super().__init__()
        self.whole, self.asked, self.data, self.tags, self.words = path.read_text(), [], {}, [], ""
        self.scripts, self._open = [], None
        self.feed(self.whole)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.asked += [attrs[name] for name in ("src", "href", "srcset", "data") if name in attrs]
        assert not [name for name in attrs if name.startswith("on")]
        if tag == "script":
            self._open = attrs.get("id", "")

    def handle_endtag(self, tag):
        if tag == "script":
            self._open = None

    def handle_data(self, text):
        if self._open is None:
            self.words += text
        elif self._open:
            self.data[self._open] = json.loads(text)
        else:
            self.scripts.append(text)


def page(posterior, folder, **settings):
    return Page(posterior.report(folder / "page.html", **settings))


def image(found, name, index=0):
    block = found.data[f"measurement-{index}"]["image"]
    values = decoded(block["samples"] if name == "samples" else block["images"][name])
    shape = block["shape"]
    return values.reshape((block["count"], *shape) if name == "samples" else shape)


def volume(tensor, lead=0):
    return as_volume(tensor, lead).double().numpy()


KINDS = {
    "grey": (1, 6, 5),
    "plain": (6, 5),
    "complex": (2, 6, 5),
    "colour": (3, 6, 5),
    "channels": (5, 6, 5),
    "volume": (1, 4, 6, 5),
    "line": (7,),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_samples(kind, tmp_path):
    samples, truth = normal((1,), (6, *KINDS[kind])) - 40, normal((2,), KINDS[kind]) - 40
    answer = of_one(samples)
    found = page(answer, tmp_path, truth=truth)
    block = found.data["measurement-0"]["image"]
    assert block["kind"] == {"plain": "grey", "volume": "grey"}.get(kind, kind)
    within = (block["window"][1] - block["window"][0]) / 1000
    np.testing.assert_allclose(image(found, "samples"), volume(samples, 1), rtol=0, atol=within)
    lower, upper = answer.interval(0.9)
    expected = {"mean": answer.mean, "std": answer.std, "lower": lower, "upper": upper}
    expected |= {"width": upper - lower, "truth": truth, "error": answer.mean - truth}
    for name, tensor in expected.items():
        exact, width = volume(tensor), float(tensor.max() - tensor.min())
        np.testing.assert_allclose(
            image(found, name), exact, rtol=0, atol=min(within, width / 1000)
        )


def test_what_is_not_finite_or_does_not_fit_into_16_bits_is_kept(tmp_path):
    samples = normal((1,), (4, *SHAPE))
    samples[0, 0, 0, 0], samples[1, 0, 1, 1] = torch.nan, torch.inf
    found = image(page(of_one(samples), tmp_path), "samples")
    holes = ~samples.isfinite().numpy()[:, :, None]
    assert (np.isnan(found) == holes).all()
    np.testing.assert_allclose(found[~holes], samples.numpy()[:, :, None][~holes], atol=1e-3)
    far = torch.tensor([0.0, 0.25, 1e7])
    assert encoded(far)["bits"] == 16
    assert encoded(far, 1.0)["bits"] == 32
    assert decoded(encoded(far, 1.0)).tolist() == far.tolist()
    for odd in (torch.full((3, *SHAPE), 2.5), torch.full((3, *SHAPE), torch.nan)):
        found = page(of_one(odd), tmp_path)
        np.testing.assert_array_equal(image(found, "samples"), volume(odd, 1))
        low, high = found.data["measurement-0"]["image"]["window"]
        assert low < high


def test_residuals_are_in_units_of_the_noise(tmp_path):
    found = page(SOLVED, tmp_path, truth=TRUTH)
    seen = MASK.observed[0].numpy()
    for index in range(3):
        data = found.data[f"measurement-{index}"]["data"]
        values = {name: decoded(block).reshape(8, 8) for name, block in data["images"].items()}
        for name, exact in (
            ("y", Y[index]),
            ("of mean", (Y - MASK.forward(SOLVED.mean.to(Y)))[index] / 0.2),
            ("of sample", (Y - MASK.forward(SOLVED.samples[:, 0].to(Y)))[index] / 0.2),
        ):
            assert (np.isnan(values[name]) == ~seen).all(), name
            np.testing.assert_allclose(values[name][seen], exact[0].numpy()[seen], atol=1e-3)
        size = float(SOLVED.diagnostics.residual_chi_square[index, 0]) ** 0.5
        assert data["sizes"]["of sample"] == pytest.approx(size, rel=1e-4)
        assert data["sizes"]["of mean"] < data["sizes"]["of sample"]


def test_a_posterior_keeps_its_measurement(tmp_path):
    assert torch.equal(SOLVED.measured.y, Y)
    assert torch.equal(SOLVED[1].measured.of_mean, SOLVED.measured.of_mean[1])
    again = ti.Posterior.concatenate([SOLVED[:1], SOLVED[1], SOLVED[2]]).measured
    SOLVED.save(tmp_path / "a.safetensors")
    loaded = ti.Posterior.load(tmp_path / "a.safetensors").measured
    for name in Measured.TENSORS:
        for other in (again, loaded):
            assert torch.equal(getattr(other, name), getattr(SOLVED.measured, name)), name
    assert (loaded.name, loaded.is_complex, loaded.basis) == ("measurement", False, "Pixels")
    assert SOLVED.to("meta").measured.y.device.type == "meta"
    # Files of older versions have none.
    dataclasses.replace(SOLVED, measured=None).save(tmp_path / "b.safetensors")
    older = ti.Posterior.load(tmp_path / "b.safetensors")
    assert older.measured is None
    found = page(older, tmp_path)
    assert found.data["measurement-0"]["data"] is None
    assert "does not hold its measurement" in found.words
    assert ti.Posterior.concatenate([older, SOLVED]).measured is None


def test_complex_measurements_are_shown_by_their_modulus(tmp_path):
    coils = torch.complex(normal((3,), (2, 8, 8)), normal((4,), (2, 8, 8)))
    mask = torch.zeros(8, 8)
    mask[:, ::2] = 1
    operator = ops.FourierSampling(mask, coils=coils, noise=ops.GaussianNoise(0.3))
    prior = ti.priors.Gaussian(torch.zeros(2, 8, 8), power_spectrum=torch.ones(8, 8))
    y = operator.measure(prior.draw(1, seed=1), seed=2)[0]
    found = page(ti.solve(y, operator, prior, num_samples=3, steps=3), tmp_path)
    data = found.data["measurement-0"]["data"]
    assert (data["name"], data["logarithmic"], data["shape"]) == ("k-space", True, [1, 1, 8, 8])
    shown = decoded(data["images"]["y"]).reshape(8, 8)
    assert (np.isnan(shown) == (mask == 0).numpy()).all()
    modulus = y.double().square().sum((0, 1)).sqrt().log10().numpy()
    np.testing.assert_allclose(shown[:, ::2], modulus[:, ::2], atol=1e-3)
    assert 0.5 < data["sizes"]["of sample"] < 2


def test_nothing_is_asked_for_and_no_text_gets_out(tmp_path):
    origin = dataclasses.replace(SOLVED.origin, prior=UNFIT, operator=f"Fine{UNFIT}", units=UNFIT)
    diagnostics = dataclasses.replace(SOLVED.diagnostics, causes=(UNFIT,))
    answer = dataclasses.replace(SOLVED, origin=origin, diagnostics=diagnostics)
    found = page(answer, tmp_path, title=UNFIT)
    assert not found.asked
    assert not re.findall(r"https?:|//[a-z]+\.|@import|url\(", found.whole)
    assert "bold" in found.words  # as text
    assert not [tag for tag, _ in found.tags if tag in ("b", "iframe", "link", "object")]
    (script,) = found.scripts
    assert "alert" not in script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a]
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert found.data["setup"]["units"] == UNFIT


def test_it_says_what_was_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tweedie_inverse.solving.page.page.MOST_NUMBERS", 29 * 42)
    samples = normal((1,), (30, 1, 12, 13))
    found = page(of_one(samples), tmp_path)
    block = found.data["measurement-0"]["image"]
    assert (block["block"], block["count"], block["shape"]) == (2, 20, [1, 1, 6, 7])
    averages = torch.nn.functional.avg_pool2d(samples, 2, ceil_mode=True)
    np.testing.assert_allclose(image(found, "samples")[:, 0], averages[:20], atol=1e-3)
    np.testing.assert_allclose(image(found, "std")[0], averages.std(0), atol=1e-3)  # of all
    notes = " ".join(found.data["measurement-0"]["notes"])
    assert "first 20 of 30 samples" in notes
    assert "2 x 2 pixels of an image of 12 x 13" in notes
    many = dataclasses.replace(SOLVED, measured=None)
    found = page(ti.Posterior.concatenate([many] * 5), tmp_path)
    assert len([name for name in found.data if name.startswith("measurement-")]) == 12
    assert "The first 12 of 15 measurements" in found.words
    alone = page(of_one(samples[:1]), tmp_path)
    assert "single sample" in " ".join(alone.data["measurement-0"]["notes"])
    assert "std" not in alone.data["measurement-0"]["image"]["images"]


@pytest.mark.parametrize(
    "shape", [(1, 1, 64, 64), (3, 1, 2000, 3000), (2, 300, 512, 512), (1, 1, 1, 10**7)]
)
@pytest.mark.parametrize("count", [1, 12])
def test_a_page_stays_small(shape, count):
    found = Reduction.of(shape, 1000, MOST_NUMBERS // count)
    rows, columns = (-(-size // found.block) for size in shape[2:])
    assert (found.samples + 9) * shape[0] * len(
        found.slices
    ) * rows * columns * count <= MOST_NUMBERS
    assert found.samples >= 8
    assert sorted({*found.slices}) == [*found.slices]
    assert found.slices[-1] < shape[1]


def test_drawn_unknowns_and_recalibrated_intervals_are_on_it(tmp_path):
    field = random_field(16)
    operator = ops.Mask(torch.ones(1, 16, 16))
    y = field.draw(1, seed=3)[0] + 0.2 * normal((5,), (1, 16, 16))
    unknown = ti.solve(y, operator, field, num_samples=4, steps=3, noise="estimate")
    found = page(unknown, tmp_path)
    assert repr(unknown.noise) in found.words
    assert [a["class"] for tag, a in found.tags if tag == "g"] == ["bars"]
    calibration = ti.calibrate(MASK, FIELD, count=20, num_samples=5, steps=2, power=False)
    keeping = ti.solve(Y, MASK, FIELD.with_calibration(calibration), num_samples=5, steps=2)
    found = page(keeping, tmp_path)
    for name, end in zip(("lower", "upper"), keeping.recalibrated().interval(), strict=True):
        shown = image(found, f"recalibrated {name}", 2)
        np.testing.assert_allclose(shown[:, 0], end[2].numpy(), atol=2e-3)


CALLS = {
    "decoupled": {},
    "network": {"method": ti.walks.Decoupled(error="network"), "seed": (4, 5, 6)},
    "langevin": {"method": "langevin"},
    "particle": {"method": "particle"},
    "unknown": {"noise": "estimate"},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "unknown")) for name in CALLS],
)
def test_the_code_on_it_makes_the_samples_again(name):
    solved = ti.solve(Y, MASK, FIELD, num_samples=4, steps=9, **CALLS[name])
    code = code_of(solved.origin, solved.stats)
    for left_out, given in (("operator", "MASK"), ("y", "Y"), ("prior", "FIELD")):
        code = code.replace(f"{left_out} = ...", f"{left_out} = {given}")
    found = {"MASK": MASK, "Y": Y, "FIELD": FIELD}
    exec(code, found)
    assert torch.equal(found["posterior"].samples, solved.samples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "page.pdf"}, r"report\('page.pdf'\): writes HTML"),
        ({"truth": TRUTH[0]}, r"report\(truth=\): needs shape \(3, 1, 8, 8\), one for each"),
        ({"truth": TRUTH * torch.nan}, r"report\(truth=\): holds 192 NaN"),
        ({"title": 3}, r"report\(title=\): needs text, got int"),
    ],
)
def test_wrong_arguments_are_refused(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match=message):
        SOLVED.report(**{"path": "page.html", **settings})
    assert not [*tmp_path.iterdir()]


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_a_browser_draws_it_without_an_error(tmp_path):
    path = SOLVED.report(tmp_path / "page.html", truth=TRUTH, title=UNFIT)
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    flags += "--disable-background-networking --disable-component-update --disable-sync "
    flags += "--enable-logging=stderr --virtual-time-budget=2000 --dump-dom"
    folder = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *flags.split(), folder, path.as_uri()], capture_output=True, text=True
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    assert ">Pixel in row 4, column 4<" in done.stdout
    mean = float(SOLVED.mean[0, 0, 4, 4])
    (shown,) = re.findall(r'<th scope="row">mean</th><td>([^<]*)</td>', done.stdout)
    assert float(shown) == pytest.approx(mean, abs=1e-3)
