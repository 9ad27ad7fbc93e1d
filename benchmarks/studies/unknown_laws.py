"""What a noise level says of an operator's number, and how sure it is, at the truth.

    python -m tweedie_inverse.benchmarks.studies.unknown_laws width|offset --images 16

With ``x_sigma = x + sigma n`` made of the true image, the Gaussian ``y ~ N(A_t m, K_t)`` of a level
has a score at the true t, whose mean 0 and variance I it claims itself.  The table has the score in
units of ``sqrt(I)``, averaged over images and its scatter, which are 0 and 1 where the Gaussian is
right, and ``score / I``, the error of the number that the level finds.
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
from tweedie_inverse.benchmarks.studies.unknown_images import cases
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
    parts = enumerate(case.known.forward(x).split(1))
    y = torch.cat([ops.GaussianNoise(case.std).sample(part, seed=i) for i, part in parts])
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
    options = parser.parse_args()
    for line in rows(options.kind, options.images, options.simulated):
        print(line, flush=True)


if __name__ == "__main__":
    with torch.no_grad(), endings():
        main()
