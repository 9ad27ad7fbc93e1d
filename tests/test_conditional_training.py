"""Digits with classes, a network that is told them, and a classifier of noisy images."""

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted, torch_generator
from tweedie_inverse.datasets.digits import Digits, load_digits
from tweedie_inverse.datasets.registry import held_out
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.priors.guidance import ClassifierGuided, classifier_free, given
from tweedie_inverse.priors.unet import UNet
from tweedie_inverse.priors.zoo import load_prior
from tweedie_inverse.training.classifier import train_classifier
from tweedie_inverse.training.config import TrainingConfig
from tweedie_inverse.training.export import export
from tweedie_inverse.training.trainer import dropped_labels, load_trained, train

SMALL = TrainingConfig(
    seed=salted(0),
    data="digits",
    size=8,
    steps=150,
    batch=32,
    widths=(16, 32),
    blocks=(1, 1),
    warmup=10,
    rate=4e-3,
    average=0.9,
    conditional=True,
)


def test_digits_are_fixed_by_their_seed_and_split():
    digits = Digits()
    images = digits.images(range(1437))
    assert images.shape == (1437, 1, 8, 8)
    assert torch.equal(digits.images([5])[0], images[5])
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    values, labels = load_digits()
    # Back to the grey values: every training image once, no held-out one.
    seen = {tuple(image.flatten().tolist()) for image in (images * 17).floor().clamp(max=16)}
    trained = torch.arange(1797) % 5 != 0
    assert seen == {tuple(image.flatten().tolist()) for image in values[trained]}
    held = held_out("digits", 8, 360)
    assert float(((held * 17).floor() - values[~trained]).abs().max()) < 1e-3
    assert torch.equal(digits.labels(range(HELD_OUT_SEED, HELD_OUT_SEED + 360)), labels[~trained])


def test_larger_digits_show_the_small_ones():
    """Counted over blocks, strokes of 32x32 pixels have the grey values they were made from."""
    seeds = range(200)
    large, small = Digits(32).images(seeds), Digits().images(seeds)
    assert torch.equal(Digits(32).images([5])[0], large[5])
    assert torch.equal(Digits(32).labels(seeds), Digits().labels(seeds))
    counted = torch.nn.functional.avg_pool2d(large, 4)
    together = torch.stack([counted.flatten(), small.flatten()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.85  # they are turned and moved a little
    with pytest.raises(ValueError, match="8x8 pixels or larger"):
        Digits(4)


def test_network_is_told_the_class_or_none():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(salted(1))
        network = UNet(1, (8, 16), (1, 1), classes=3)
        torch.nn.init.normal_(network.last.weight)
        torch.nn.init.normal_(network.up[0][0].conv2.weight)
        plain = UNet(1, (8, 16), (1, 1))
    x, label = torch.ones(2, 1, 8, 8), torch.zeros(2)
    nobody = network(x, label)
    assert torch.equal(nobody, network(x, label, torch.tensor([3, 3])))
    mixed = network(x, label, torch.tensor([3, 1]))
    assert torch.equal(mixed[0], nobody[0])
    assert not torch.allclose(mixed[1], nobody[1])
    with pytest.raises(ValueError, match="without classes"):
        plain(x, label, torch.tensor([0, 0]))


def test_labels_are_dropped_at_their_share():
    generator = torch_generator(1)
    labels = dropped_labels(SMALL, Digits(), range(4000), generator)
    share = float((labels == 10).double().mean())
    assert abs(share - 0.1) < 5 * (0.09 / 4000) ** 0.5
    kept = labels != 10
    assert torch.equal(labels[kept], Digits().labels(range(4000))[kept])


@pytest.mark.slow
def test_conditional_training_uses_the_class_and_survives_export(tmp_path):
    """Told the right class the network denoises better than told a wrong one, at high noise."""
    for _ in train(SMALL, tmp_path):
        pass
    prior = load_trained(tmp_path)
    digits, seeds = Digits(), range(HELD_OUT_SEED, HELD_OUT_SEED + 360)
    clean, labels = digits.images(seeds), digits.labels(seeds)
    noisy = clean + torch.randn(clean.shape, generator=torch_generator(1))

    def error(told):
        return float((given(prior, told).denoise(noisy, 1.0) - clean).square().mean())

    right, wrong, none = error(labels), error((labels + 1) % 10), error(torch.tensor(10))
    assert right < 0.95 * none
    assert none < wrong
    unconditional = prior.denoise(noisy, 1.0)
    torch.testing.assert_close(unconditional, given(prior, 10).denoise(noisy, 1.0))

    loaded = load_prior(export(tmp_path, "digits", count=32)).uncorrected()
    for label in (3, 10):
        pair = (
            given(loaded, label).denoise(noisy, 1.0),
            given(prior.uncorrected(), label).denoise(noisy, 1.0),
        )
        torch.testing.assert_close(*pair, rtol=0, atol=5e-3)
    strong = classifier_free(loaded, 3, 2.0)
    assert ti.sample(strong, 2, steps=4).shape == (2, 1, 8, 8)


def test_classes_need_labels(tmp_path):
    config = TrainingConfig(**{**SMALL.__dict__, "data": "phantoms", "size": 16})
    with pytest.raises(ValueError, match="have no classes"):
        next(train(config, tmp_path))


@pytest.mark.slow
def test_classifier_learns_noisy_digits_and_steers():
    digits = Digits()
    classifier = train_classifier(digits, steps=150, batch=64, width=16)
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + 360)
    images, labels = digits.images(seeds), digits.labels(seeds)
    noise = torch.randn(images.shape, generator=torch_generator(1))
    accuracies = []
    for sigma in (0.05, 0.3, 20.0):
        level = torch.full((360,), sigma)
        found = classifier(images + sigma * noise, level).argmax(1)
        accuracies.append(float((found == labels).double().mean()))
    assert accuracies[0] > 0.8
    assert accuracies[0] > accuracies[1] > accuracies[2]
    assert accuracies[2] < 0.25  # nothing to be seen there
    data = ti.priors.Empirical(digits.images(range(500)), std=0.05)
    samples = ti.sample(ClassifierGuided(data, classifier, 7, 3.0), 40, steps=30)
    near = torch.cdist(samples.flatten(1), data.means.flatten(1)).argmin(1)
    share = float((digits.labels(range(500))[near] == 7).double().mean())
    assert share > 0.6
