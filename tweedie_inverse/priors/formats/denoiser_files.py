"""Which published denoiser a file is, by its keys: KAIR, deepinv, scico, SCUNet, Restormer.

A `Family` is what the keys and shapes say: the network, its channels, and on which noise levels
such networks were trained.  What only a file's name can say, a level or a blind network, is read
in `levels_named`.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from tweedie_inverse.priors.formats.networks.drunet import DRUNet
from tweedie_inverse.priors.formats.networks.plain import (
    IRCNN_DILATIONS,
    IRCNN_STEP,
    Bank,
    Layer,
    Plain,
    Wiring,
)

State = Mapping[str, Tensor]


class Family(NamedTuple):
    """A kind of published denoiser.

    Attributes:
        name: for people.
        channels: of its images.
        build: makes the network; weights that are not loaded yet are in `weights`.
        told: what it knows of the noise level: a map ("level"), nothing ("nothing"), so that it
            was trained at one level or at many; "blind" where its published relatives all are.
        sigma_max: the largest level of its training, on [0, 1]; None where files differ.
        weights: to be loaded into the network by name; empty where `build` did.
        fully_convolutional: whether larger images are welcome.
        as_published: whether layers and widths are those of published weights.
    """

    name: str
    channels: int
    build: Callable[[], nn.Module]
    told: Literal["level", "nothing", "blind"]
    sigma_max: float | None
    weights: State = MappingProxyType({})
    fully_convolutional: bool = True
    as_published: bool = True


_PLAIN_KEY = re.compile(r"(\D*?)(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)")


def family_of(content: Any, state: State) -> Family | None:
    """The published denoiser in a file; None where it is none.

    Args:
        content: of the file, for banks of networks.
        state: its weights by name.
    """
    if "m_head.weight" in state and "m_tail.weight" in state and "m_up3.0.weight" in state:
        return _drunet(state)
    if "params/conv_start/kernel" in state and "params/conv_end/kernel" in state:
        return _scico(state)
    if "in_conv.weight" in state and "out_conv.weight" in state and "conv_list.0.weight" in state:
        return _deepinv_dncnn(state)
    if "student_grad.model.m_head.weight" in state:
        return _gsdrunet(state)
    if "m_head.0.weight" in state and "m_down1.0.trans_block.ln1.weight" in state:
        return _scunet(state)
    if "patch_embed.proj.weight" in state and "refinement.0.attn.temperature" in state:
        return _restormer(state)
    bank = _bank(content)
    if bank is not None:
        return bank
    layers = _plain_layers(state) or _deepinv_ffdnet_layers(state)
    return None if layers is None else _plain(layers)


class Named(NamedTuple):
    """What a file's name says of its training, on [0, 1]."""

    level: float | None
    blind: bool
    clipped: bool
    real: bool
    deepinv: bool


_SCICO = {"l": 0.06, "m": 0.1, "h": 0.2}


def levels_named(stem: str) -> Named:
    """Levels in 255ths, as ``dncnn_25``, ``scunet_color_15`` and ``sigma2``; scico's L, M, H."""
    stem = stem.lower()
    level = None
    scico = re.search(r"dncnn_?(?:6|17)([lmh])(?![a-z])", stem)
    number = re.search(r"(?:sigma|noise|[_-])(\d{1,2})(?![\dkm])", stem)
    if scico:
        level = _SCICO[scico[1]]
    elif number and int(number[1]) > 0:
        level = int(number[1]) / 255
    return Named(
        level,
        "blind" in stem or "dncnn3" in stem,
        "clip" in stem,
        "real" in stem,
        "deepinv" in stem,
    )


def _plain_layers(state: State) -> list[Layer] | None:
    """Layers of ``prefix.NUMBER.weight``; None if there are other keys, too."""
    found = {name: _PLAIN_KEY.fullmatch(name) for name in state}
    if not state or not all(found.values()) or len({m[1] for m in found.values() if m}) != 1:
        return None
    prefix = next(m[1] for m in found.values() if m)
    numbers = sorted({int(m[2]) for m in found.values() if m})
    layers: list[Layer] = []
    for number in numbers:
        parts = {
            kind: state[f"{prefix}{number}.{kind}"]
            for kind in ("weight", "bias", "running_mean", "running_var")
            if f"{prefix}{number}.{kind}" in state
        }
        weight = parts.get("weight")
        if weight is not None and weight.ndim == 4:
            layers.append(Layer(weight, parts.get("bias")))
        elif weight is not None and weight.ndim == 1 and len(parts) == 4 and layers:
            layers[-1] = layers[-1]._replace(norm=parts)
        else:
            return None
    return layers if len(layers) > 2 and _fit(layers) else None


def _fit(layers: list[Layer]) -> bool:
    """Whether each layer takes what the one before it makes, by kernels of 3 x 3."""
    shapes = [layer.weight.shape for layer in layers]
    return all(shape[2:] == (3, 3) for shape in shapes) and all(
        before[0] == after[1] for before, after in pairwise(shapes)
    )


# Layers and their width; other stacks of convolutions look the same by their keys.
_LAYOUTS = {
    "DnCNN": {(17, 64), (20, 64)},
    "FDnCNN": {(20, 64)},
    "FFDNet": {(15, 64), (12, 96)},
    "IRCNN": {(7, 64)},
}


def _plain(layers: list[Layer]) -> Family | None:
    """The relatives of DnCNN, told apart by the channels of the first and the last layer."""
    first, last, count = layers[0].weight.shape[1], layers[-1].weight.shape[0], len(layers)
    told: Literal["level", "nothing", "blind"] = "level"
    channels = last
    largest: float | None = 75 / 255
    if first - last in (1, 4) and last % 4 == 0:  # deepinv halves the map as well
        wiring = Wiring(residual=False, level_maps=first - last, half_size=True)
        name, channels = "FFDNet", last // 4
    elif first == last + 1:
        name, wiring = "FDnCNN", Wiring(residual=False, level_maps=1)
    elif first != last:
        return None
    elif count == len(IRCNN_DILATIONS):
        name, wiring, told, largest = "IRCNN", Wiring(dilations=IRCNN_DILATIONS), "nothing", None
    else:
        # KAIR's networks of one level have 17 layers, its blind ones 20.
        told, largest = "blind" if count == 20 else "nothing", 55 / 255
        name, wiring = "DnCNN", Wiring()
    build = lambda: Plain(layers, wiring)  # noqa: E731
    published = (count, layers[0].weight.shape[0]) in _LAYOUTS[name]
    return Family(name, channels, build, told, largest, as_published=published)


def _bank(content: Any) -> Family | None:
    """IRCNN's 25 networks under the names 0 to 24."""
    if not isinstance(content, Mapping) or set(content) != {str(k) for k in range(25)}:
        return None
    networks = [
        _plain_layers(content[str(k)]) if isinstance(content[str(k)], Mapping) else None
        for k in range(25)
    ]
    if any(layers is None or len(layers) != len(IRCNN_DILATIONS) for layers in networks):
        return None
    wiring = Wiring(dilations=IRCNN_DILATIONS)
    build = lambda: Bank([Plain(layers or [], wiring) for layers in networks])  # noqa: E731
    channels = (networks[0] or [])[0].weight.shape[1]
    return Family("IRCNN, 25 levels", channels, build, "level", 25 * IRCNN_STEP)


def _deepinv_ffdnet_layers(state: State) -> list[Layer] | None:
    """``blocks.NUMBER.0.weight``, the last one without the 0."""
    renamed = {
        re.sub(r"^blocks\.(\d+)\.0\.", r"blocks.\1.", name): value for name, value in state.items()
    }
    if not state or not all(name.startswith("blocks.") for name in state):
        return None
    return _plain_layers(renamed)


def _deepinv_dncnn(state: State) -> Family:
    """deepinv's DnCNN adds what KAIR's subtracts."""
    count = len([name for name in state if re.fullmatch(r"conv_list\.\d+\.weight", name)])
    names = ["in_conv", *(f"conv_list.{index}" for index in range(count)), "out_conv"]
    layers = [Layer(state[f"{name}.weight"], state.get(f"{name}.bias")) for name in names]
    weight, bias, _ = layers[-1]
    layers[-1] = Layer(-weight, None if bias is None else -bias)
    channels = weight.shape[0]
    return Family("DnCNN of deepinv", channels, lambda: Plain(layers, Wiring()), "nothing", None)


def _scico(state: State) -> Family:
    """flax: kernels ``(height, width, in, out)``, no biases, batch statistics apart."""
    count = len([name for name in state if re.fullmatch(r"params/ConvBNBlock_\d+/Conv_0/.*", name)])
    layers = [Layer(_oihw(state["params/conv_start/kernel"]))]
    for index in range(count):
        block = f"ConvBNBlock_{index}"
        norm = {
            "weight": state[f"params/{block}/BatchNorm_0/scale"],
            "bias": state[f"params/{block}/BatchNorm_0/bias"],
            "running_mean": state[f"batch_stats/{block}/BatchNorm_0/mean"],
            "running_var": state[f"batch_stats/{block}/BatchNorm_0/var"],
        }
        layers.append(Layer(_oihw(state[f"params/{block}/Conv_0/kernel"]), norm=norm))
    layers.append(Layer(_oihw(state["params/conv_end/kernel"])))
    channels = layers[0].weight.shape[1]
    level_map = channels % 2 == 0
    wiring = Wiring(level_maps=int(level_map), circular=True)
    build = lambda: Plain(layers, wiring)  # noqa: E731
    if level_map:
        return Family("DnCNN of scico", channels - 1, build, "level", 0.2)
    return Family("DnCNN of scico", channels, build, "nothing", None)


def _oihw(kernel: Tensor) -> Tensor:
    return kernel.permute(3, 2, 0, 1).contiguous()


def _drunet(state: State) -> Family:
    widths = [state[f"m_{part}.0.res.0.weight"].shape[0] for part in ("down1", "down2", "down3")]
    widths.append(state["m_body.0.res.0.weight"].shape[0])
    channels = state["m_tail.weight"].shape[0]
    blocks = _stages(state, "m_body.")
    build = lambda: DRUNet(channels, widths, blocks)  # noqa: E731
    return Family("DRUNet", channels, build, "level", 50 / 255, state)


def _gsdrunet(state: State) -> Family:
    inner = "student_grad.model."
    widths = [
        state[f"{inner}m_{part}.0.res.0.weight"].shape[0] for part in ("down1", "down2", "down3")
    ]
    widths.append(state[f"{inner}m_body.0.res.0.weight"].shape[0])
    channels, blocks = state[f"{inner}m_tail.weight"].shape[0], _stages(state, f"{inner}m_body.")

    def build() -> nn.Module:
        models = _deepinv("GSDRUNet")
        return models.GSDRUNet(in_channels=channels, out_channels=channels, nb=blocks, nc=widths)

    return Family("GSDRUNet", channels, build, "level", 50 / 255, state)


def _scunet(state: State) -> Family:
    channels, dim = state["m_tail.0.weight"].shape[0], state["m_head.0.weight"].shape[0]
    stages = [f"m_{part}." for part in ("down1", "down2", "down3", "body", "up3", "up2", "up1")]
    config = [
        len({k.split(".")[1] for k in state if k.startswith(s) and "trans_block" in k})
        for s in stages
    ]

    def build() -> nn.Module:
        return _deepinv("SCUNet").SCUNet(channels, config=config, dim=dim, pretrained=None)

    return Family("SCUNet", channels, build, "nothing", None, state)


def _restormer(state: State) -> Family:
    channels, given = state["output.weight"].shape[0], state["patch_embed.proj.weight"].shape[1]
    places = ("encoder_level1.", "encoder_level2.", "encoder_level3.", "latent.")
    settings = {
        "in_channels": given,
        "out_channels": channels,
        "dim": state["patch_embed.proj.weight"].shape[0],
        "num_blocks": [_stages(state, place) for place in places],
        "num_refinement_blocks": _stages(state, "refinement."),
        "heads": [state[f"{place}0.attn.temperature"].shape[0] for place in places],
        "bias": "encoder_level1.0.attn.qkv.bias" in state,
        "LayerNorm_type": (
            "WithBias" if "encoder_level1.0.norm1.body.bias" in state else "BiasFree"
        ),
        "pretrained": None,
    }
    build = lambda: _deepinv("Restormer").Restormer(**settings)  # noqa: E731
    return Family("Restormer", channels, build, "nothing", 50 / 255, state)


def _stages(state: State, prefix: str) -> int:
    """How many numbered parts there are below a name."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _deepinv(network: str) -> Any:
    try:
        import deepinv
    except ImportError as error:
        raise ImportError(
            f"load_prior: a {network} is built by deepinv: pip install tweedie-inverse[networks]"
        ) from error
    return deepinv.models
