"""What a noise level says of an operator's number, and how sure it is, at the truth.

    python -m tweedie_inverse.benchmarks.studies.unknown_laws width|offset --images 16

With ``x_sigma = x + sigma n`` made of the true image, the Gaussian ``y ~ N(A_t m, K_t)`` of a level
has a score at the true t, whose mean 0 and variance I it claims itself.  The table has the score in
units of ``sqrt(I)``, averaged over images and its scatter, which are 0 and 1 where the Gaussian is
right, and ``score / I``, the error of the number that the level finds.

    python -m tweedie_inverse.benchmarks.studies.unknown_laws width --images 10 --drawn 6 --steps 24

The same at samples that a walk draws with the number known.  Given y, a true image is one more
sample: the square of its score is on average the variance of the scores among the samples and the
square of their mean.  Where the latter is larger, samples lie off to one side, all of them in the
same way, and the number that is drawn with them does so, too.
"""

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.benchmarks.problems.suites import phantoms
from tweedie_inverse.benchmarks.studies.unknown_images import cases, measured
from tweedie_inverse.conditional.collapsed import Scene
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.walks.level_moves import of_average_size

_STEP = 0.05
_SIGMAS = (20.0, 0.8, 0.2, 0.05)
HEAD = (
    "| V | sigma | score, averaged | its scatter | error of the number "
    "| standard deviation claimed |\n|---|---|---|---|---|---|"
)


# Where the last moves are made.
_LOW_SIGMAS = (0.2, 0.1, 0.05)
DRAWN_HEAD = (
    "| sigma | squared score of true images | variance among samples | squared mean of samples "
    "| standard deviation claimed |\n|---|---|---|---|---|"
)


def covariances(prior: ti.priors.Prior, sigma: float, denoised: Tensor) -> dict[str, Covariance]:
    """V as the walk may take it."""
    average = prior.denoising_error(sigma)
    by_place = prior.conditional_covariance(sigma, denoised)
    sized = of_average_size(by_place)
    return {
        "average": average,
        "average, 5 times": average.map(lambda variance: 5 * variance),
        "by place, as draws take it": by_place,
        "by place, of the average's size": sized,
        "the same, 5 times": sized.map(lambda variance: 5 * variance),
    }


def rows(kind: str, images: int, simulated: int) -> Iterator[str]:
    """One row for each V and level."""
    (case,) = cases(kind).values()
    assert case.truth is not None
    x, prior = phantoms(images, "test"), ti.load_prior(case.prior)
    y = measured(case, x)
    instrument = Instrument(Problem(y, case.drawn, ops.GaussianNoise(case.std)))
    streams = Streams([("unknown laws", index) for index in range(images)])
    yield HEAD
    for step, sigma in enumerate(_SIGMAS):
        at = streams.at(step)
        denoised = prior.denoise(x + sigma * at.normal(x.shape[1:], like=x), sigma)
        for name, covariance in covariances(prior, sigma, denoised).items():
            scene = Scene(denoised, covariance, instrument, y)
            z, error, claimed = _score(scene, case.truth, at, simulated)
            yield (
                f"| {name} | {sigma:g} | {z.mean():.2f} +- {1 / math.sqrt(images):.2f} "
                f"| {z.std():.2f} | {error.mean():.3f} +- {error.std():.3f} | {claimed:.3f} |"
            )


def drawn_rows(
    kind: str, images: int, num_samples: int, steps: int, simulated: int
) -> Iterator[str]:
    """One row for each low level, of scores at true images and at samples with the number known."""
    (case,) = cases(kind).values()
    assert case.truth is not None
    x, prior = phantoms(images, "test"), ti.load_prior(case.prior)
    y = measured(case, x)
    noise = ops.GaussianNoise(case.std)
    found = ti.solve(y, case.known, prior, noise=noise, num_samples=num_samples, steps=steps)
    several = torch.cat([x[:, None], found.samples], 1).flatten(0, 1)
    instrument = Instrument(
        Problem(y.repeat_interleave(num_samples + 1, 0), case.drawn, ops.GaussianNoise(case.std))
    )
    streams = Streams([("unknown laws", index) for index in range(len(several))])
    yield DRAWN_HEAD
    for step, sigma in enumerate(_LOW_SIGMAS):
        at = streams.at(step)
        state = several + sigma * at.normal(x.shape[1:], like=several)
        denoised = prior.denoise(state, sigma)
        covariance = of_average_size(prior.conditional_covariance(sigma, denoised))
        scene = Scene(denoised, covariance, instrument, instrument.y)
        z, _, claimed = _score(scene, case.truth, at, simulated)
        truth, samples = z.reshape(images, -1).split([1, num_samples], 1)
        # The simulated data that scores are centred with have a share in every square.
        within = samples.var(1).mean() - 1 / simulated
        between = samples.mean(1).square().mean() - samples.var(1).mean() / num_samples
        yield (
            f"| {sigma:g} | {truth.square().mean() - 1 / simulated:.2f} | {within:.2f} "
            f"| {between:.2f} | {claimed:.3f} |"
        )


def _score(
    scene: Scene, truth: float, streams: Streams, simulated: int
) -> tuple[Tensor, Tensor, float]:
    """Score over its own deviation, and over the information, ``(images,)`` each; the deviation."""
    u = torch.full((len(scene.y), 1), truth).double()
    here, below, above = (scene.at(u + side * _STEP) for side in (0, -1, 1))

    def score(away: Tensor) -> Tensor:
        low = scene.energy(away - below.predicted, below.tuned)
        high = scene.energy(away - above.predicted, above.tuned, low.solution)
        return (low.value - high.value) / (4 * _STEP)

    own = score(scene.y)
    others = torch.stack(
        [score(scene.simulated(here.tuned, streams) + here.predicted) for _ in range(simulated)]
    )
    information, centred = float(others.var(0).mean()), own - others.mean(0)
    return centred / math.sqrt(information), centred / information, information**-0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("width", "offset"))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--simulated", type=int, default=6)
    parser.add_argument("--drawn", type=int, default=0, help="samples of each image")
    parser.add_argument("--steps", type=int, default=24, help="evaluations of each sample")
    options = parser.parse_args()
    lines = rows(options.kind, options.images, options.simulated)
    if options.drawn:
        sizes = options.images, options.drawn, options.steps, options.simulated
        lines = drawn_rows(options.kind, *sizes)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()
