"""The architecture of an NCSN++ or DDPM++ network, from the shapes of its weights.

Its modules are one numbered list, which is read as a row of letters (`_letters`).  Everything
follows from them but three things that have no weights: whether images are centred, the filter of a
pyramid without convolutions, and whether sums of branches are rescaled, as they are in every
published network with BigGAN blocks and in none without.
"""

from collections.abc import Mapping

from torch import Tensor

from tweedie_inverse.priors.formats.networks.ncsnpp import Architecture, Pyramid


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture, from names and shapes alone.

    Raises:
        ValueError: the modules are not in an order that such a network has.
    """
    letters = _letters(state)
    fourier = letters.startswith("W")
    first = letters.index("C")  # after the embedding
    features = _shape(state, first, "weight")[0]
    body, start = letters[first + 1 :], first + 1
    down = next((i for i, s in enumerate(body) if s in "SDP"), None)
    if down is None:
        raise ValueError("load_prior: an NCSN++ network of one level is not supported")
    blocks = body[:down].count("R")
    widths, attention, place, level = [], [], 0, 0
    pyramid_in: Pyramid = "none"
    while True:
        for _ in range(blocks):
            width = _shape(state, start + place, "Conv_0.weight")[0]
            place += 1
            if body[place] == "A":  # that of the bottleneck comes after one block more
                attention.append(level)
                place += 1
        widths.append(width)
        if body[place] not in "SDP":
            break
        place, level = place + 1, level + 1
        if body[place] in "PD":
            pyramid_in, place = "residual", place + 1
        elif body[place] == "M":
            pyramid_in, place = "skip", place + 1
    out: Pyramid = "none"
    if letters.count("N") > 1:
        growing = sum(letter in "DP" for letter in body[place:])
        out = "residual" if growing > (0 if "S" in body else level) else "skip"
    combined = [i for i, s in enumerate(letters) if s == "M"]
    return Architecture(
        in_channels=_shape(state, first, "weight")[1],
        out_channels=_shape(state, len(letters) - 1, "weight")[0],
        features=features,
        channel_mult=tuple(width // features for width in widths),
        blocks=blocks,
        attention_levels=tuple(dict.fromkeys(attention)),
        fourier=fourier,
        biggan="S" in body,
        fir="P" in letters or "M" in letters or out != "none",
        pyramid_in=pyramid_in,
        pyramid_out=out,
        rescale="S" in body,
        concatenate=bool(combined)
        and _shape(state, combined[0] + 1, "Conv_0.weight")[1]
        > _shape(state, combined[0], "Conv.weight")[0],
    )


def _shape(state: Mapping[str, Tensor], index: int, name: str) -> tuple[int, ...]:
    return tuple(state[f"all_modules.{index}.{name}"].shape)


def _letters(state: Mapping[str, Tensor]) -> str:
    """One letter a module.

    W Fourier features, L linear, C convolution, N norm, R residual block, S one that resamples
    (same width, yet with a skip convolution), A attention, M combination of image and features,
    P convolution with a filter, D plain resampling convolution.
    """
    names: dict[int, set[str]] = {}
    for name in state:
        if name.startswith("all_modules."):
            _, number, rest = name.split(".", 2)
            names.setdefault(int(number), set()).add(rest)
    if not names or sorted(names) != list(range(len(names))):
        raise ValueError("load_prior: not an NCSN++ checkpoint, all_modules has gaps")
    return "".join(_letter(state, index, names[index]) for index in range(len(names)))


def _letter(state: Mapping[str, Tensor], index: int, names: set[str]) -> str:
    if "NIN_3.W" in names:
        return "A"
    if "Conv_1.weight" in names:
        width_out, width = _shape(state, index, "Conv_0.weight")[:2]
        return "S" if "Conv_2.weight" in names and width == width_out else "R"
    for name, letter in (("W", "W"), ("Conv.weight", "M"), ("Conv2d_0.weight", "P")):
        if name in names:
            return letter
    if "Conv_0.weight" in names:
        return "D"
    return {1: "N", 2: "L", 4: "C"}[len(_shape(state, index, "weight"))]
