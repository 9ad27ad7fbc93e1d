"""What all prior files of this package hold: half-precision weights, and a denoising error."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..denoising_error import DenoisingError, Transform
from ..local_error import LocalError


def tensors_of(network: nn.Module, error: DenoisingError) -> dict[str, Tensor]:
    """Weights under ``network.``, the denoising error under ``error.``."""
    state = network.state_dict()
    return {
        **{f"network.{name}": value.half().contiguous() for name, value in state.items()},
        "error.sigmas": error.sigmas.double(),
        "error.log_variance": error.variance.log().half(),
        "error.gain": error.gain.half(),
        "error.local.contrast": error.local.contrast.float(),
        "error.local.log_variance": error.local.variance.log().float(),
        "error.local.log_spectrum": error.local.spectrum.log().half(),
        "error.mixing": error.mixing.double(),
    }


def weights_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's state dict."""
    return {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }


def error_in(tensors: Mapping[str, Tensor], transform: Transform) -> DenoisingError:
    """The denoising error; its `transform` is in the header of the file."""
    variance = tensors["error.log_variance"].double().exp()
    if "error.kurtosis" in tensors:  # files of earlier versions knew one factor for all places
        local = LocalError.same_everywhere(variance, tensors["error.kurtosis"].double())
    else:
        local = LocalError(
            tensors["error.local.contrast"].double(),
            tensors["error.local.log_variance"].double().exp(),
            tensors["error.local.log_spectrum"].double().exp(),
        )
    return DenoisingError(
        tensors["error.sigmas"],
        variance,
        tensors["error.gain"].double(),
        local,
        tensors["error.mixing"],
        transform,
    )
