"""Torch datasets and loaders wherever images are taken."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.boundary.arrays import dataset_tensor, tensor_of

FIELD = random_field(8)
IMAGES = FIELD.draw(40, seed=3)
MASK = ops.Mask(torch.ones(1, 8, 8), noise=ops.GaussianNoise(0.1))


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(lambda: IMAGES[0], None)


GOOD = {
    "tensors": Items(list(IMAGES)),
    "arrays": Items([image.numpy() for image in IMAGES]),
    "dicts": Items([{"x": image, "y": 0} for image in IMAGES]),
    "labelled": TensorDataset(IMAGES, torch.arange(len(IMAGES))),
    "loader": DataLoader(TensorDataset(IMAGES, torch.arange(len(IMAGES))), batch_size=7),
    "plain loader": DataLoader(Items(list(IMAGES)), batch_size=16),
}


@pytest.mark.parametrize("name", GOOD)
def test_its_images_are_stacked_in_its_order(name):
    state = torch.get_rng_state()
    assert torch.equal(tensor_of("f", "images", GOOD[name]), IMAGES)
    assert torch.equal(dataset_tensor("f", "images", GOOD[name], most=9), IMAGES[:9])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_of_one_without_end():
    assert len(dataset_tensor("f", "images", Endless(), most=3)) == 3


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "has no length and may have no end"),
        (DataLoader(Items(list(IMAGES)), shuffle=True), "the loader shuffles"),
        (Items([]), "images of one shape, got no items"),
        (Items([{"picture": IMAGES[0]}]), "needs items that are images, tuples .*got dict"),
        (Items([{"x": IMAGES[0], "image": IMAGES[0]}]), "dicts with one of x and image, got dict"),
        (Items(["a.png"]), "got str"),
        (Items([IMAGES[0], IMAGES[0, :, 1:]]), r"got images of shapes \(1, 7, 8\), \(1, 8, 8\)"),
        (Items([object()]), r"f\(an item of images=\)"),
    ],
)
def test_what_holds_no_images_is_refused(dataset, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tensor_of("f", "images", dataset)


def test_each_caller_takes_one():
    """The same numbers as of the tensor."""
    dataset = GOOD["labelled"]
    assert torch.equal(
        ti.measure_denoising_error(FIELD, dataset, levels=2).variance,
        ti.measure_denoising_error(FIELD, IMAGES, levels=2).variance,
    )
    flow = ti.ProbabilityFlow(tolerance=1e-2)
    assert torch.equal(
        ti.likelihood(FIELD, Items(list(IMAGES[:2])), method=flow).value,
        ti.likelihood(FIELD, IMAGES[:2], method=flow).value,
    )
    assert torch.equal(MASK.measure(dataset, seed=1), MASK.measure(IMAGES, seed=1))
    settings = {"count": 20, "num_samples": 5, "steps": 2, "power": False}
    calibrations = [
        ti.calibrate(MASK, FIELD, images=images, **settings) for images in (dataset, IMAGES)
    ]
    assert np.array_equal(*(np.asarray(one.p_values) for one in calibrations))
    assert str(ti.check_prior(FIELD, dataset)) == str(ti.check_prior(FIELD, IMAGES))
    fits = [
        ti.check_fit(MASK.measure(IMAGES[0]), MASK, FIELD, images=images, count=19, steps=2)
        for images in (dataset, IMAGES)
    ]
    assert str(fits[0]) == str(fits[1])
