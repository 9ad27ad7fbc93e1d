"""Guidance on digits: class accuracy and diversity against the scale, with and without measurement.

    python -m tweedie_inverse.benchmarks.studies.guidance
        train both networks, then both tables
    python -m tweedie_inverse.benchmarks.studies.guidance --steps 4000    longer training

The judge of a class is a support vector machine trained on the clean training digits, which no
network has seen.  Diversity is the mean distance of two samples of a class, over that of two
held-out digits of the same class: 1 is right, less is too alike.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.app.endings import endings
from tweedie_inverse.datasets.digits import Digits
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.priors import NetworkPrior, Prior
from tweedie_inverse.priors.guidance import ClassifierGuided, classifier_free
from tweedie_inverse.training.classifier import NoisyClassifier, train_classifier
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.trainer import load_trained, train

SCALES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
DATA = Digits()
CONFIG = TrainingConfig(
    data="digits", size=8, batch=64, widths=(32, 64), blocks=(2, 2), conditional=True, rate=2e-3
)


class Judge:
    """Classes by a support vector machine, and its accuracy on held-out digits."""

    def __init__(self, count: int = 1437, held_out: int = 360):
        from sklearn.svm import SVC

        seeds = range(count)
        self.machine = SVC(gamma="scale").fit(
            DATA.images(seeds).flatten(1).numpy(), DATA.labels(seeds).numpy()
        )
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + held_out)
        self.images, self.labels = DATA.images(seeds), DATA.labels(seeds)
        self.own = self.accuracy(self.images, self.labels)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of `images` that the machine puts in the class `labels` says."""
        found = torch.from_numpy(self.machine.predict(images.flatten(1).numpy()))
        return float((found == labels).double().mean())

    def diversity(self, images: Tensor, labels: Tensor) -> float:
        """Mean pairwise distance within a class, over that of held-out digits."""
        ratios = []
        for label in range(DATA.classes):
            ours, real = images[labels == label], self.images[self.labels == label]
            ratios.append(torch.pdist(ours.flatten(1)).mean() / torch.pdist(real.flatten(1)).mean())
        return float(torch.stack(ratios).mean())


def networks(steps: int, seed: int) -> tuple[NetworkPrior, NoisyClassifier]:
    """A class-conditional prior and a classifier of noisy digits."""
    config = TrainingConfig(**{**CONFIG.__dict__, "steps": steps, "seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        for _ in train(config, folder, save_every=steps):
            pass
        prior = load_trained(folder)
    prior.error = None
    return prior, train_classifier(DATA, steps=steps // 2, seed=seed)


def guided(
    prior: NetworkPrior, classifier: NoisyClassifier, kind: str, label: int, scale: float
) -> Prior:
    if kind == "classifier-free":
        return classifier_free(prior, label, scale)
    return ClassifierGuided(prior, classifier, label, scale)


def unconditional(
    prior: NetworkPrior, classifier: NoisyClassifier, judge: Judge, count: int
) -> Iterator[str]:
    """Samples of every class, by kind of guidance and scale."""
    yield "| guidance | scale | class accuracy | diversity |\n|---|---|---|---|"
    yield f"| held-out digits | | {judge.own:.3f} | 1 |"
    labels = torch.arange(DATA.classes).repeat_interleave(count)
    for kind in ("classifier-free", "classifier"):
        for scale in SCALES:
            steer = partial(guided, prior, classifier, kind, scale=scale)
            parts = [
                ti.sample(steer(label=label), count, recipe="dpm++2m", steps=30, seed=label)
                for label in range(DATA.classes)
            ]
            samples = torch.cat(parts)
            accuracy = judge.accuracy(samples, labels)
            diversity = judge.diversity(samples, labels)
            yield f"| {kind} | {scale:g} | {accuracy:.3f} | {diversity:.3f} |"


def measured(
    prior: NetworkPrior, classifier: NoisyClassifier, judge: Judge, count: int
) -> Iterator[str]:
    """Lower halves of held-out digits from their upper halves and their class, by `solve`."""
    mask = torch.ones(1, 8, 8)
    mask[:, 4:] = 0
    operator = ops.Mask(mask, noise=ops.GaussianNoise(0.05))
    images, labels = judge.images[:count], judge.labels[:count]
    y = operator.measure(images, seed=0)
    yield "| guidance | scale | class accuracy | error, RMS | chi-square |\n|---|---|---|---|---|"
    for kind in ("classifier-free", "classifier"):
        for scale in SCALES[:-1]:
            samples, classes, squares, chi = [], [], [], []
            for label in labels.unique().tolist():
                chosen = labels == label
                posterior = ti.solve(
                    y[chosen],
                    operator,
                    guided(prior, classifier, kind, label, scale),
                    method="decoupled",
                    num_samples=8,
                    steps=30,
                )
                samples.append(posterior.samples.flatten(0, 1))
                classes.append(torch.full((len(samples[-1]),), label))
                squares.append((posterior.mean - images[chosen]).square().flatten(1).mean(1))
                chi.append(posterior.diagnostics.residual_chi_square.flatten())
            accuracy = judge.accuracy(torch.cat(samples), torch.cat(classes))
            error = float(torch.cat(squares).mean().sqrt())
            chi_square = float(torch.cat(chi).mean())
            yield f"| {kind} | {scale:g} | {accuracy:.3f} | {error:.4f} | {chi_square:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000, help="training steps")
    parser.add_argument("--count", type=int, default=60, help="samples a class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    judge = Judge()
    prior, classifier = networks(options.steps, options.seed)
    for table in (
        unconditional(prior, classifier, judge, options.count),
        measured(prior, classifier, judge, 100),
    ):
        print()
        for line in table:
            print(line, flush=True)


if __name__ == "__main__":
    with endings():
        main()
