"""What a deepinv physics knows: the shape of its images, and which entries it observes.

Every class of deepinv keeps it under another name; the names are collected here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.operators.deepinv.copies import Copies
from tweedie_inverse.operators.deepinv.layout import Layout, Part


def runnable_copies(physics: Any, domain_shape: Sequence[int] | None) -> Copies:
    """Copies for images of `domain_shape`: real ones, or complex ones of half as many channels.

    Raises:
        ValueError: the physics does not know the shape and `domain_shape` is not given, or ``A``
            fails on such images.
    """
    known = image_shape(physics)
    if domain_shape is None and known is None:
        raise ValueError(
            f"from_deepinv: {type(physics).__name__} does not say the shape of its images; pass "
            "domain_shape=, the shape of one image without the batch axis, such as (1, 64, 64)"
        )
    shape = tuple(int(side) for side in (domain_shape or known or ()))
    if known is not None and shape == (2 * known[0], *known[1:]):
        return Copies(physics, Layout((Part(known, "complex"),), False))
    try:
        return Copies(physics, Layout((Part(shape, "real"),), False))
    except ValueError as error:
        # It may refuse real tensors; then real images go in as complex ones.
        try:
            return Copies(physics, Layout((Part(shape, "embedded"),), False))
        except ValueError:
            raise error from error.__cause__


def image_shape(physics: Any) -> tuple[int, ...] | None:
    """Shape of one image, without the batch axis; None if the physics accepts several."""
    from deepinv import physics as dp

    if isinstance(physics, dp.ComposedPhysics):
        return image_shape(physics.physics_list[0])
    if isinstance(physics, dp.StackedPhysics):
        shapes = (image_shape(part) for part in physics.physics_list)
        return next((shape for shape in shapes if shape is not None), None)
    if isinstance(physics, dp.VirtualLinearPhysics):
        return image_shape(physics.physics)
    if isinstance(physics, dp.Tomography | dp.Scattering):
        return (1, physics.img_width, physics.img_width)
    if isinstance(physics, dp.Downsampling):
        return _downsampling_shape(physics)
    size = getattr(physics, "img_size", None)
    if size is None:
        return None
    size = tuple(int(side) for side in size)
    if isinstance(physics, dp.SequentialMRI):
        return (size[0], *size[-2:])  # the frames are of one still image
    if isinstance(physics, dp.MultiCoilMRI):
        return (2, *size[-3 if physics.three_d else -2 :])
    if isinstance(physics, dp.PET | dp.TomographyWithAstra) or len(size) == 2:
        return (1, *size)
    return size


def _downsampling_shape(physics: Any) -> tuple[int, ...] | None:
    from deepinv import physics as dp

    if physics.imsize is None:
        return None
    shape = tuple(int(side) for side in physics.imsize)
    if not isinstance(physics, dp.Upsampling):
        return shape
    factor = int(physics.factor)
    return (shape[0], *(side // factor for side in shape[1:]))


def observed_entries(physics: Any, layout: Layout) -> Tensor | None:
    """Entries of y that masks let through, boolean; None if all are."""
    from deepinv import physics as dp

    leaves = physics.physics_list if isinstance(physics, dp.StackedPhysics) else [physics]
    entries = [_seen(leaf, part) for leaf, part in zip(leaves, layout.parts, strict=True)]
    observed = torch.cat([e.flatten() for e in entries]) if layout.is_list else entries[0]
    return None if bool(observed.all()) else observed


def _seen(physics: Any, part: Part) -> Tensor:
    from deepinv import physics as dp

    from tweedie_inverse.operators.deepinv.physics import WrappedOperator

    everything = torch.ones(part.real_shape, dtype=torch.bool)
    if isinstance(physics, WrappedOperator):
        observed = physics.operator.observed
        return everything if observed is None else observed.cpu()
    if isinstance(physics, dp.NonCartesianMRI):  # its mask is one of a grid that it does not use
        return everything
    if isinstance(physics, dp.MultiCoilMRI):
        return (physics.mask[0, :, None] != 0).cpu().expand(part.real_shape)
    if isinstance(physics, dp.Inpainting | dp.MRI):
        return (physics.mask[0] != 0).cpu().expand(part.real_shape)
    return everything
