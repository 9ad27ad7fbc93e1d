"""Pictures of posteriors show images of any range of values."""

import pytest
import torch

from tests.test_posterior import posterior
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.plots import plot_problem


def shown(figure):
    """(title, what was drawn) of every panel with a picture."""
    return {axis.get_title(): axis.get_images()[0] for axis in figure.axes if axis.get_images()}


@pytest.mark.parametrize("offset", [-40.0, 0.0, 1000.0])
def test_truth_samples_and_mean_share_the_range_of_their_values(offset):
    answer = posterior(offset + normal((1,), (3, 1, 8, 8)))
    truth = offset + 6 * normal((2,), (1, 8, 8))
    images = torch.cat([answer.samples, truth[None]])
    expected = float(images.min()), float(images.max())
    for title, drawn in shown(answer.plot(truth=truth)).items():
        if title.startswith(("truth", "sample", "posterior mean")):
            assert drawn.get_clim() == pytest.approx(expected)


def test_colours_are_scaled_from_the_range_of_the_data():
    """Before, values outside [0, 1] were clipped: of these, all would have been black or white."""
    samples = -10 + 4 * normal((1,), (3, 3, 8, 8)).sigmoid()
    low, high = float(samples.min()), float(samples.max())
    drawn = shown(posterior(samples).plot())["posterior mean"].get_array()
    expected = (samples.mean(0) - low) / (high - low)
    torch.testing.assert_close(
        torch.as_tensor(drawn).double(), expected.permute(1, 2, 0), rtol=0, atol=1e-5
    )


def test_a_constant_image_can_be_drawn():
    for channels in (1, 3):
        posterior(torch.full((2, channels, 4, 4), 7.0)).plot()


def test_a_guess_does_not_stretch_the_range(tmp_path):
    """A pseudo-inverse may be a thousand times larger than the image behind it."""
    answer = posterior(normal((1,), (3, 1, 8, 8)))
    figure = plot_problem(
        answer.summary,
        tmp_path / "a.png",
        truth=answer.mean,
        measurement=-5 + 9 * normal((2,), (3, 4, 4)).sigmoid(),
        first_guess=1000 * answer.mean,
        title="",
    )
    expected = float(answer.samples.min()), float(answer.samples.max())
    panels = shown(figure)
    for title in ("truth", "pseudo-inverse", "sample 1", "posterior mean"):
        drawn = next(drawn for name, drawn in panels.items() if name.startswith(title))
        assert drawn.get_clim() == pytest.approx(expected)
    colours = panels["measurement"].get_array()
    assert float(colours.min()) == pytest.approx(0, abs=1e-5)
    assert float(colours.max()) == pytest.approx(1, abs=1e-5)
