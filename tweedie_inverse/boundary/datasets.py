"""Datasets of torch: the images in their items, without the labels beside them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

_NEED = "needs items that are images, tuples (image, label), or dicts with one of x and image"
# Where dicts keep their image: deepinv's datasets, and those of Hugging Face.
_KEYS = ("x", "image")


def is_dataset(value: Any) -> bool:
    """Whether this is a dataset or a loader of torch."""
    return isinstance(value, Dataset | DataLoader)


def images_in(
    caller: str,
    name: str,
    dataset: Any,
    as_tensor: Callable[[Any], Tensor],
    *,
    most: int | None = None,
) -> Tensor:
    """The images of a dataset or a loader, ``(count, *shape)``, in its order.

    Args:
        as_tensor: makes a tensor of one image, or of a batch of a loader.
        most: how many are enough; None takes all.

    Raises:
        TypeError: items that are no images.
        ValueError: a dataset without an end or without items, a loader that shuffles, or images of
            different shapes.
    """
    is_loader = isinstance(dataset, DataLoader)
    if is_loader and isinstance(dataset.sampler, RandomSampler):
        raise ValueError(
            f"{caller}({name}=): the loader shuffles, so that each call would see other images or "
            "another order; pass its dataset, or a loader with shuffle=False"
        )
    if most is None and not hasattr(dataset, "__len__"):
        raise ValueError(
            f"{caller}({name}=): {type(dataset).__name__} has no length and may have no end; pass "
            "a tensor of the images that you want, such as torch.stack(list(islice(dataset, 100)))"
        )
    found: list[Tensor] = []
    count = 0
    for item in _items(dataset):
        values = as_tensor(_image(caller, name, item))
        if is_loader and values.ndim == 0:
            raise TypeError(f"{caller}({name}=): {_NEED}; a batch of the loader is a number")
        found.append(values if is_loader else values[None])
        count += len(found[-1])
        if most is not None and count >= most:
            break
    shapes = sorted({tuple(values.shape[1:]) for values in found})
    if len(shapes) != 1:
        got = f"images of shapes {', '.join(map(str, shapes[:3]))}" if shapes else "no items"
        raise ValueError(f"{caller}({name}=): needs images of one shape, got {got}")
    return torch.cat(found)[:most]


def _items(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, DataLoader):
        # A loader draws a number for its workers, shuffled or not; torch's own stay as they were.
        with torch.random.fork_rng(devices=[]):
            yield from dataset
    elif isinstance(dataset, IterableDataset):
        yield from dataset
    else:
        yield from (dataset[index] for index in range(len(dataset)))


def _image(caller: str, name: str, item: Any) -> Any:
    """The image of an item: itself, the first of a tuple, or that of a dict."""
    if isinstance(item, tuple | list) and item:
        item = item[0]
    elif isinstance(item, dict) and len(kept := [key for key in _KEYS if key in item]) == 1:
        item = item[kept[0]]
    if isinstance(item, dict | str | bytes) or item is None:
        raise TypeError(f"{caller}({name}=): {_NEED}, got {type(item).__name__}")
    return item
