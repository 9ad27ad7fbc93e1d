"""Which of a file's weights are taken, under which names, and how that is said."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tweedie_inverse.priors.formats.reading.names import cleaned, says_average
from tweedie_inverse.priors.formats.reading.weights import State, Weights, is_network

# An average further from the raw weights than this share of their size has hardly begun.
_FAR = 0.5
_ENOUGH = 100_000


def views(weights: Weights) -> Iterator[State]:
    """The weights as they are, then without the name of a module round them, and so on."""
    level = [weights.state]
    for _ in range(5):
        deeper = []
        for state in level:
            yield state
            groups: dict[str, State] = {}
            total = sum(value.numel() for value in state.values())
            for name, value in state.items():
                first, _, rest = name.partition(".")
                if rest:
                    groups.setdefault(first, {})[rest] = value
            sizes = {first: sum(v.numel() for v in g.values()) for first, g in groups.items()}
            for first in sorted(groups, key=lambda name: -sizes[name]):
                if sizes[first] >= total / 5 and is_network(groups[first]):
                    deeper.append(cleaned(groups[first]))
        level = deeper


def distance(state: State, other: State) -> float:
    """Of two states, root mean square over their shared weights, as a share of their size.

    Of large tensors the first numbers stand for all.
    """
    apart = size = 0.0
    for name, value in state.items():
        if name in other and value.is_floating_point() and other[name].shape == value.shape:
            a, b = (v.flatten()[:_ENOUGH].float() for v in (value, other[name]))
            apart += float((a - b).square().sum())
            size += max(float(a.square().sum()), float(b.square().sum()))
    return (apart / size) ** 0.5 if size > 0 else 0.0


def doubt(taken: Weights, found: Sequence[Weights]) -> str:
    """What makes an average suspicious beside the raw weights; empty if nothing does."""
    raw = [w for w in found if not w.average and w.state.keys() <= taken.state.keys()]
    if not taken.average or not raw:
        return ""
    if taken.updates == 0:
        return "was never updated, as the file says"
    apart = min(distance(taken.state, w.state) for w in raw)
    if apart > _FAR:
        return (
            f"differs from the raw weights by {apart:.0%} of their size, as one that has hardly "
            "begun"
        )
    return ""


def in_words(taken: Weights, found: Sequence[Weights]) -> str:
    """What was taken, and what else there is, for `info` and the log."""
    usable = [w for w in found if not w.flaw and w is not taken]
    raw = [w.key or "the file itself" for w in usable if not w.average]
    averages = [w.key for w in usable if w.average]
    place = f"under {taken.key!r}" if taken.key else "in the file itself"
    if not taken.average:
        if averages:
            return f"the raw ones, {place} ({_quoted(averages)} has the average)"
        return f"{place}, the only ones" if taken.key else "the only ones in the file"
    decay = "" if taken.decay is None else f" of decay {taken.decay:g}"
    others = [f"{_quoted(raw)} has the raw ones"] if raw else []
    others += [f"{_quoted(averages)} has another average"] if averages else []
    return f"the average{decay}, {place}" + (f" ({'; '.join(others)})" if others else "")


def _quoted(keys: Sequence[str]) -> str:
    return ", ".join(repr(key) for key in keys[:3])


def chosen(found: Sequence[Weights], asked: str | None, name: str) -> list[Weights]:
    """Those that may be taken, in the order in which formats are asked about them.

    Raises:
        ValueError: nothing there of what was asked for, averages of which none is known to be the
            longest, or one that cannot be used.
    """
    there = ", ".join(_label(w) for w in found) or "nothing"
    if asked == "raw":
        taken = [w for w in found if not w.average]
    elif asked == "average":
        taken = [w for w in found if w.average]
    elif asked is not None:
        taken = [w for w in found if w.key == asked]
    else:
        taken = list(found)
    if asked is not None and not taken:
        raise ValueError(
            f"load_prior({name!r}, weights={asked!r}): there are no such weights, found {there}"
        )
    averages = [w for w in taken if w.average and not w.flaw]
    flawed = [w for w in taken if w.flaw]
    if flawed and not averages:
        raise ValueError(
            f"load_prior({name!r}): the average under {flawed[0].key!r} cannot be used, "
            f"{flawed[0].flaw}; weights='raw' takes the raw weights"
        )
    if len(averages) > 1 and asked in (None, "average") and _is_open(averages):
        raise ValueError(
            f"load_prior({name!r}): the file holds {len(averages)} averages and does not say which "
            f"is the longest; choose by weights=, one of {there}"
        )
    return [w for w in taken if not w.flaw]


def _label(weights: Weights) -> str:
    return f"{weights.key or 'raw'!r} ({'average' if weights.average else 'raw'})"


def _is_open(averages: Sequence[Weights]) -> bool:
    """Whether averages of the same network differ, and nothing says in what."""
    first = averages[0]
    same = [w for w in averages[1:] if w.state.keys() == first.state.keys()]
    unsaid = [w for w in same if None in (w.decay, first.decay) or w.decay == first.decay]
    return any(
        not torch.equal(w.state[name], value) for w in unsaid for name, value in first.state.items()
    )


def module_in(content: Any, asked: str | None, name: str) -> nn.Module | None:
    """The whole module that was pickled, alone or under a key, an average before a raw one.

    Raises:
        ValueError: there are such modules, but not the one that was asked for.
    """
    if isinstance(content, nn.Module):
        return content
    pairs = content.items() if isinstance(content, Mapping) else ()
    modules = {str(key): value for key, value in pairs if isinstance(value, nn.Module)}
    if not modules:
        return None
    averages = [key for key in modules if says_average(key)]
    raw = [key for key in modules if key not in averages]
    fit = {None: averages + raw, "average": averages, "raw": raw}.get(
        asked, [key for key in modules if key == asked]
    )
    if not fit:
        raise ValueError(
            f"load_prior({name!r}, weights={asked!r}): there is no such module, found "
            f"{_quoted(list(modules))}"
        )
    return modules[fit[0]]
