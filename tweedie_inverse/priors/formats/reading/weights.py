"""Which weights a file holds: raw ones and averages, under whatever names training scripts give.

`weights_in` finds every state of a network in what was saved, however deep, and leaves optimizers
alone.  Averages (of `torch_ema`, Lightning's and latent-diffusion's copies, `AveragedModel`, lists
in the order of the parameters) come first, the longest before the others.  `names.py` reads names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from tweedie_inverse.priors.formats.reading.names import (
    cleaned,
    decay_in,
    is_of_an_optimizer,
    matched,
    numbers_in,
    of_averages,
    says_average,
)

# Under these names training scripts keep the raw weights, best first.
_WRAPPERS = ("state_dict", "model_state_dict", "params", "model")
# How deep, and in how many containers, weights are looked for.
_DEPTH, _CONTAINERS = 6, 20_000
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "sigmas", "betas")

State = dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """The weights of one network in a file.

    Attributes:
        key: where they lie, keys joined by dots; empty for the file itself.
        state: by name, without the prefixes of wrappers.
        decay: of the average, where the file says it.
        updates: how often the average was updated, where the file says it.
        flaw: why they cannot be used; empty where they can.
        listed: an average without names, in the order of the parameters; it has no state yet.
    """

    key: str
    state: State
    average: bool = False
    decay: float | None = None
    updates: int | None = None
    flaw: str = ""
    listed: tuple[Tensor, ...] = ()

    @property
    def size(self) -> int:
        return sum(value.numel() for value in self.state.values())


def weights_in(content: Any) -> list[Weights]:
    """All weights in what was saved, those to take by default first; empty if there are none."""
    found = [part for node in _nodes(content) for part in of_node(node)]
    raw = sorted((w for w in found if not w.average), key=_rank)
    averages = [_completed(w, raw) for w in found if w.average]
    averages.sort(key=lambda w: -(w.decay or 0.0))  # the longest first
    largest = max((w.size for w in raw), default=0)
    other = [w for w in averages if not w.flaw and w.size < largest / 2]  # of another network
    return [*(w for w in averages if w not in other), *raw, *other]


def _rank(weights: Weights) -> tuple[int, int]:
    first = weights.key.split(".")[0]
    known = _WRAPPERS.index(first) if first in _WRAPPERS else len(_WRAPPERS)
    return known, -weights.size


@dataclass
class _Walk:
    """What was met on the way through the containers of a file."""

    seen: set[int]

    def is_new(self, value: Any) -> bool:
        new = id(value) not in self.seen and len(self.seen) < _CONTAINERS
        self.seen.add(id(value))
        return new


def _nodes(content: Any) -> Iterator[Weights]:
    yield from _below(content, Weights("", {}), 0, _Walk(set()))


def _below(content: Any, here: Weights, depth: int, walk: _Walk) -> Iterator[Weights]:
    """Every container with tensors of a network in it, with what its keys say."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if depth > _DEPTH or not isinstance(content, Mapping | list | tuple):
        return
    if not walk.is_new(content):
        return
    if isinstance(content, Mapping):
        yield from _below_mapping(content, here, depth, walk)
        return
    tensors = tuple(value for value in content if isinstance(value, Tensor))
    if here.average and tensors and len(tensors) == len(content):
        yield replace(here, listed=tensors)
    for index, item in enumerate(content):
        inner, decay = item, here.decay
        if isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], float):
            decay, inner = item
        yield from _below(
            inner, replace(here, key=f"{here.key}[{index}]", decay=decay), depth + 1, walk
        )


def _below_mapping(
    content: Mapping[Any, Any], here: Weights, depth: int, walk: _Walk
) -> Iterator[Weights]:
    if "param_groups" in content:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    own = numbers_in(content)
    here = replace(
        here,
        decay=own.decay if here.decay is None and here.average else here.decay,
        updates=own.updates if own.updates is not None else here.updates,
        average=here.average or own.is_average,
    )
    if is_network(tensors):
        yield replace(here, state=tensors)
    for key, value in content.items():
        if isinstance(value, Tensor) or is_of_an_optimizer(str(key)):
            continue
        average = here.average or says_average(str(key))
        path = f"{here.key}.{key}" if here.key else str(key)
        decay = decay_in(str(key)) if average else None
        rates = _rates(content, value) if average else None
        below = replace(here, key=path, average=average, decay=decay or here.decay)
        for index, item in enumerate(value if rates else ()):
            told = replace(below, key=f"{path}[{index}]", decay=rates[index] if rates else None)
            yield from _below(item, told, depth + 2, walk)
        if not rates:
            yield from _below(value, below, depth + 1, walk)


def _rates(content: Mapping[Any, Any], averages: Any) -> list[float] | None:
    """Decays that lie beside a list of averages, one for each."""
    if not isinstance(averages, list | tuple) or not averages or isinstance(averages[0], Tensor):
        return None
    for key, value in content.items():
        if not any(word in str(key).lower() for word in ("decay", "rate")):
            continue
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, list | tuple) and len(parts) == len(averages):
            try:
                return [float(part) for part in parts]
            except (TypeError, ValueError):
                continue
    return None


def of_node(node: Weights) -> list[Weights]:
    """A container's weights, split into those of raw networks and of averages among its names."""
    if node.listed:
        return [node]
    groups, parts = of_averages(cleaned(node.state)), []
    for prefix, group in groups.items():
        own = numbers_in({name.split(".")[-1]: value for name, value in group.items()})
        weights = {name: value for name, value in group.items() if value.ndim or "." in name}
        if not is_network(weights):
            continue
        key = ".".join(part for part in (node.key, prefix) if part)
        if not prefix:
            average = node.average and len(groups) == 1
            parts.append(replace(node, state=cleaned(weights), average=average))
            continue
        told = decay_in(prefix) or (own.decay if own.decay is not None else node.decay)
        updates = node.updates if own.updates is None else own.updates
        parts.append(Weights(key, cleaned(weights), True, told, updates))
    return parts


def is_network(state: Mapping[str, Any]) -> bool:
    """Tensors with names, at least one of them a matrix or a kernel of real numbers."""
    return any(
        isinstance(v, Tensor) and v.ndim >= 2 and v.is_floating_point() and not n.isdigit()
        for n, v in state.items()
    )


def _completed(average: Weights, raw: Sequence[Weights]) -> Weights:
    """An average under the names of the raw weights, with what is not averaged from there."""
    for weights in raw:
        state = _ordered(average.listed, weights.state) if average.listed else None
        if not average.listed:
            state = matched(average.state, weights.state)
        if state is not None:
            return replace(average, state={**weights.state, **state}, listed=())
    if average.listed:
        flaw = f"its {len(average.listed)} tensors do not follow the order of the weights"
        return replace(average, listed=(), flaw=flaw)
    if not any("." in name.split(".", 1)[-1] for name in average.state) and len(average.state) > 4:
        return replace(average, flaw="its names have lost their dots, and no raw weights have them")
    return average


def _ordered(values: Sequence[Tensor], state: State) -> State | None:
    """Names for a list in the order of the trained parameters; None where it does not fit."""
    for left_out in (_BUFFERS, (*_BUFFERS, "all_modules.0.W"), ()):
        names = [
            name
            for name, value in state.items()
            if not left_out or (value.is_floating_point() and not name.endswith(left_out))
        ]
        if [state[name].shape for name in names] == [value.shape for value in values]:
            return dict(zip(names, values, strict=True))
    return None
