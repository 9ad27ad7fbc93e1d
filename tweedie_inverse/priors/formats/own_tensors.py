"""What all prior files of this package hold: half-precision weights, and a denoising error."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..denoising_error import DenoisingError, Transform


def tensors_of(network: nn.Module, error: DenoisingError) -> dict[str, Tensor]:
    """Weights under ``network.``, the denoising error under ``error.``."""
    state = network.state_dict()
    return {
        **{f"network.{name}": value.half().contiguous() for name, value in state.items()},
        "error.sigmas": error.sigmas.double(),
        "error.log_variance": error.variance.log().half(),
        "error.gain": error.gain.half(),
        "error.kurtosis": error.kurtosis,
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
    return DenoisingError(
        tensors["error.sigmas"],
        tensors["error.log_variance"].double().exp(),
        tensors["error.gain"].double(),
        tensors["error.kurtosis"].double(),
        tensors["error.mixing"],
        transform,
    )
