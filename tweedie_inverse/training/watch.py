"""A run is watched on images that it never sees: is it still learning, or learning by heart?

The averaged network denoises the same crops with the same noise at every look, some of training
images and some held out, so that two looks differ by what was learned between them and by nothing
else.
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors.network import NetworkPrior
from tweedie_inverse.sampling.sampling import sample
from tweedie_inverse.training.checks import LEVELS, Check, judge
from tweedie_inverse.training.pictures import draw_curves, draw_samples
from tweedie_inverse.training.precision import reduced
from tweedie_inverse.walks.base import WalkDivergedError

if TYPE_CHECKING:
    from tweedie_inverse.training.run import Run

_COUNT = 32  # images of each kind
_SAMPLES, _STEPS = 8, 18


class Watch:
    """Looks at a run now and then; pictures go to `folder`."""

    def __init__(self, run: "Run", folder: Path):
        self._run, self._folder = run, folder
        self._held_out = run.images.held_out(_COUNT)
        first = run.config.first_image
        self._trained = run.images.images(range(first, first + len(self._held_out)))

    @torch.no_grad()
    def look(self) -> Check:
        """Measure, judge, draw."""
        run = self._run
        prior = copy.copy(run.task.prior)
        prior.module = run.average.module.eval()
        trained = self._errors(prior, self._trained)
        held_out = self._errors(prior, self._held_out)
        each = held_out.clamp(min=1e-20).log().mean(0)
        check = Check(run.step, trained.mean(1).tolist(), held_out.mean(1).tolist(), each.tolist())
        earlier = [Check(**one) for one in run.checks]
        check = check._replace(warning=judge([*earlier, check]))
        run.checks.append(check._asdict())
        draw_curves(self._folder / "loss.png", run.history, [*earlier, check], LEVELS)
        self._draw_samples(prior)
        run.average.module.train(run.network.training)
        return check

    def _errors(self, prior: Any, images: Tensor) -> Tensor:
        """``(levels, count)`` mean squared errors."""
        rows = []
        for index, sigma in enumerate(LEVELS):
            noisy = images + sigma * normal(("watch", index), tuple(images.shape))
            errors = []
            for clean, seen in zip(images.split(_COUNT), noisy.split(_COUNT), strict=True):
                seen = seen.to(self._run.device)
                with reduced(self._run.config.precision, seen.device):
                    denoised = prior.denoise(seen, sigma).float().cpu()
                errors.append((denoised - clean).square().flatten(1).mean(1))
            rows.append(torch.cat(errors))
        return torch.stack(rows)

    def _draw_samples(self, prior: Any) -> None:
        """Samples of a network of one noise level; with momentum they need a walk of their own."""
        if not isinstance(prior, NetworkPrior):
            return
        device = torch.device(self._run.device)
        try:
            with reduced(self._run.config.precision, device):
                samples = sample(prior, _SAMPLES, steps=_STEPS, seed=0).float().cpu()
        except WalkDivergedError:  # a network that has only begun
            return
        draw_samples(
            self._folder / "samples.png", samples, self._trained[:_SAMPLES], self._run.step
        )
