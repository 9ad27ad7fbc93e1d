"""Images that are in memory, or that a torch data set gives, as sources."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import tensor_of
from tweedie_inverse.datasets.own.facts import Facts, facts_of
from tweedie_inverse.datasets.own.layout import images_of_array
from tweedie_inverse.runtime.digest import digest

_WHITES = {torch.bool: 1.0, torch.uint8: 255.0, torch.uint16: 65535.0}


class Array:
    """Images ``(n, channels, height, width)`` or ``(n, height, width)``, a tensor or an array.

    Raises:
        TypeError: complex numbers, or no array.
        ValueError: another shape; NaN.
    """

    name = "an array"

    def __init__(self, images: Any):
        values = tensor_of("train", "images", images).detach().cpu()
        if values.is_complex():
            raise TypeError("train(images=): got complex numbers; give their magnitude")
        if values.ndim == 3 and values.shape[0] in (1, 3):
            raise ValueError(
                f"train(images=): {tuple(values.shape)} may be one image or a few without "
                "channels; give (n, channels, height, width)"
            )
        try:
            self.images = images_of_array(values)
            white = _WHITES.get(values.dtype)
            self.facts = [
                facts_of(
                    _plain(image)[None],
                    name=str(number),
                    checksum=digest(image),
                    group=str(number),
                    white=white,
                )
                for number, image in enumerate(self.images)
            ]
        except ValueError as error:
            raise ValueError(f"train(images=): the array {error}") from None

    def load(self, number: int) -> Tensor:
        return _plain(self.images[number])[None]


class TorchDataset:
    """A `torch.utils.data.Dataset` with a length, or any sequence of images or ``(image, ...)``.

    An image is a tensor or array ``(channels, height, width)`` or ``(height, width)``; what else an
    item holds, such as a label, is left aside.  Each is asked for once at the beginning.

    Raises:
        TypeError: it has no length, or its items are no images.
    """

    def __init__(self, items: Any):
        self.items = items
        self.name = f"a {type(items).__name__}"
        if not hasattr(items, "__len__") or not hasattr(items, "__getitem__"):
            raise TypeError(
                f"train(images=): needs an array, a folder, or a data set with a length and "
                f"items by number, got {type(items).__name__}"
            )
        if len(items) == 0:
            raise ValueError("train(images=): the data set is empty")
        self.facts = [self._facts(number) for number in range(len(items))]

    def _facts(self, number: int) -> Facts:
        image = self._image(number)
        try:
            return facts_of(
                _plain(images_of_array(image)),
                name=str(number),
                checksum=digest(image),
                group=str(number),
                white=_WHITES.get(image.dtype),
            )
        except ValueError as error:
            return Facts(str(number), digest(image), refused=str(error))

    def _image(self, number: int) -> Tensor:
        item = self.items[number]
        found = item[0] if isinstance(item, tuple | list) and len(item) else item
        if not isinstance(found, Tensor | np.ndarray):
            raise TypeError(
                f"train(images=): item {number} is {type(found).__name__}, not a tensor (channels, "
                "height, width) or a pair that begins with one; add a transform such as "
                "torchvision's ToTensor"
            )
        values = torch.as_tensor(found)
        if values.is_complex():
            raise TypeError(f"train(images=): item {number} is complex; give its magnitude")
        return values

    def load(self, number: int) -> Tensor:
        return _plain(images_of_array(self._image(number)))


def _plain(values: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return values if values.dtype == torch.float64 else values.float()


def one_array(images: Any) -> bool:
    """Whether it is one tensor or array, and not a sequence of them."""
    return isinstance(images, Tensor | np.ndarray) or (
        hasattr(images, "__array__") and not isinstance(images, Sequence)
    )
