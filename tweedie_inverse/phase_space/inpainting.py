"""Inpainting by replacement: known pixels follow the forward process, the rest the prior.

Song et al. 2021, appendix I.2; Pandey and Mandt 2023, section 4.3.  After every step the known
pixels, all their phases, are drawn afresh from ``p(z_t | x0)`` at the time where the step arrives.
(The paper's code takes the time where the step begins; the state is then noisier than its time
says.)  An approximation: the unknown pixels never see how well they fit.  `solve` with ``ops.Mask``
draws from the posterior.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tweedie_inverse.boundary.arrays import real_tensor, refuse_type, tensor_of
from tweedie_inverse.phase_space.prior import PhaseSpacePrior
from tweedie_inverse.phase_space.processes import act


@dataclass(frozen=True, eq=False)
class Known:
    """Pixels that are given.

    Attributes:
        image: ``(*shape)``, or ``(num_samples, *shape)`` where all samples run in one batch, in
            data units; values outside the mask do not matter.
        mask: ``(*shape)`` or broadcasting to it; True or 1 where the pixel is known.
    """

    image: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        image = tensor_of("Known", "image", self.image)
        refuse_type("Known(image=)", image)
        object.__setattr__(self, "image", image)
        object.__setattr__(self, "mask", real_tensor("Known", "mask", self.mask))

    def refuse(self, prior: PhaseSpacePrior) -> None:
        """Raise an error where image or mask are no images, or do not fit the prior."""
        shape = tuple(prior.shape)
        mask = self.mask
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError("Known(mask=): needs zeros and ones, or False and True")
        lead = self.image.ndim - len(shape)
        if lead not in (0, 1) or tuple(self.image.shape[lead:]) != shape:
            raise ValueError(
                f"Known: image must have the prior's shape {shape}, got {tuple(self.image.shape)}"
            )
        try:
            torch.broadcast_to(self.mask, shape)
        except RuntimeError:
            raise ValueError(
                f"Known: mask {tuple(self.mask.shape)} does not fit images of shape {shape}"
            ) from None
        if not bool(self.image[self._where(self.image)].isfinite().all()):
            raise ValueError("Known: the image holds NaN or infinity among its known pixels")

    def put(self, z: Tensor, t: float, prior: PhaseSpacePrior, noise: Callable[[], Tensor]):
        """`z` with the known pixels drawn from ``p(z_t | x0)``."""
        seen = prior.process.given_image(t)
        image = torch.where(self._where(self.image), self.image, torch.zeros_like(self.image))
        clean = ((image.to(z) - prior.offset) / prior.scale).expand(len(z), *prior.shape)
        forward = act(seen.direction[..., None], clean[:, None]) + act(seen.factor, noise())
        return torch.where(self._where(clean)[:, None], forward, z)

    def finish(self, x: Tensor) -> Tensor:
        """`x` in data units with the known pixels as they were given."""
        return torch.where(self._where(x), self.image.to(x), x)

    def _where(self, like: Tensor) -> Tensor:
        return self.mask.to(device=like.device, dtype=torch.bool).expand(like.shape)
