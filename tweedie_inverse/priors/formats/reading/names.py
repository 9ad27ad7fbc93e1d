"""What the names in a file say: prefixes of wrappers, averages, decays, optimizers."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

State = dict[str, Tensor]

# Parts of a name that wrappers add anywhere: torch.compile, FSDP, activation checkpoints, Fabric.
_NOISE = {
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
}
# Prefixes that wrappers add in front of every name: DataParallel, Opacus.
_OUTER = ("module", "_module")
_AVERAGE = {"ema", "emas", "avg", "averaged", "average", "averages", "swa", "shadow", "polyak"}
_OPTIMIZER = {"opt", "opts", "scaler", "scheduler", "schedulers", "lr", "loops", "callbacks"}
_OPTIMIZER |= {"collected", "amp", "rng"}


class Numbers(NamedTuple):
    """What lies beside the weights of an average."""

    decay: float | None
    updates: int | None
    is_average: bool


def words(name: str) -> list[str]:
    """`"ema_model"`, `"modelEMA"` and `"model-ema"` in words."""
    spread = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return [word.rstrip("0123456789") or word for word in re.split(r"[^a-z0-9]+", spread.lower())]


def says_average(name: str) -> bool:
    return bool(_AVERAGE.intersection(words(name)))


def is_of_an_optimizer(name: str) -> bool:
    return any(word.startswith("optim") or word in _OPTIMIZER for word in words(name))


def decay_in(name: str) -> float | None:
    """0.9999 of ``ema_0.9999`` and of ``ema_9999``."""
    found = re.search(r"0?\.\d+", name) or re.search(r"(?<!\d)9{2,}\d*(?!\d)", name)
    if found is None:
        return None
    text = found[0]
    return float(text) if "." in text else float(f"0.{text}")


def numbers_in(content: Mapping[Any, Any]) -> Numbers:
    """Decay and number of updates, as `torch_ema`, diffusers, `AveragedModel` and others say."""
    decay = _scalar(content.get("decay", content.get("beta")))
    counts = ("num_updates", "n_averaged", "optimization_step", "updates")
    updates = next(
        (c for c in (_scalar(content.get(name)) for name in counts) if c is not None), None
    )
    return Numbers(
        decay if decay is not None and 0 < decay < 1 else None,
        None if updates is None or updates < 0 else int(updates),
        "n_averaged" in content,
    )


def _scalar(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and not value.is_complex() else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def cleaned(state: Mapping[str, Tensor]) -> State:
    """Names without what wrappers add; unchanged where two would become one."""
    renamed: State = {}
    for name, value in state.items():
        parts = [part for part in name.split(".") if part not in _NOISE]
        renamed[".".join(parts)] = value
    while any(_all_in(renamed, outer) for outer in _OUTER):
        renamed = {
            name.partition(".")[2] if name.startswith(tuple(f"{o}." for o in _OUTER)) else name: v
            for name, v in renamed.items()
        }
    return renamed if len(renamed) == len(state) else dict(state)


def _all_in(state: State, outer: str) -> bool:
    """Whether all names begin so, but for single numbers such as a count."""
    inside = [name.startswith(f"{outer}.") for name, value in state.items() if value.ndim]
    return bool(inside) and all(inside)


def of_averages(state: State) -> dict[str, State]:
    """Names sorted by the average they belong to; the empty key has the raw ones.

    ``ema_model.conv.weight`` becomes ``model.conv.weight`` of the average ``ema_model``, beside
    the raw ``model.conv.weight``; ``online_model`` is another word for the raw one.
    """
    groups: dict[str, State] = {}
    for name, value in state.items():
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts[:-1][:3]) if says_average(part)), None)
        if place is None:
            if parts[0].startswith("online_"):
                parts[0] = parts[0].removeprefix("online_")
            groups.setdefault("", {})[".".join(parts)] = value
            continue
        end = place + 1
        if parts[place].endswith("_0") and parts[end].isdigit() and len(parts[end]) > 1:
            end += 1  # the point of a decay
        kept = [w for w in re.split(r"[_-]", parts[place]) if w.lower() not in _AVERAGE]
        base = "_".join(word for word in kept if not word.isdigit())
        rest = [*parts[:place], *([base] if base else []), *parts[end:]]
        groups.setdefault(".".join(parts[:end]), {})[".".join(rest)] = value
    return groups


def matched(average: State, raw: State) -> State | None:
    """The average under the names of the raw weights; None where it is of another network.

    Either may have a prefix that the other has not, and the average may have lost all dots, as
    in latent-diffusion's copies.
    """
    for cut_raw in _prefixes(raw):
        inside = {n[len(cut_raw) :]: n for n in raw if n.startswith(cut_raw)}
        dotless = {name.replace(".", ""): full for name, full in inside.items()}
        for cut in _prefixes(average):
            cut_off = {n[len(cut) :]: v for n, v in average.items() if n.startswith(cut)}
            for names in (inside, dotless):
                own = {_without_noise(n): v for n, v in cut_off.items() if v.ndim or n in names}
                hits = [n for n in own if n in names and raw[names[n]].shape == own[n].shape]
                if len(hits) == len(own) >= max(1, len(inside) // 2):
                    return {names[n]: own[n] for n in hits}
    return None


def _without_noise(name: str) -> str:
    """Of a name without dots, in which the parts that wrappers add cannot be told by dots."""
    for part in _NOISE:
        name = name.replace(part, "")
    return name


def _prefixes(state: State) -> list[str]:
    """Nothing, and the first part of names that many have."""
    firsts: dict[str, int] = {}
    for name in state:
        if "." in name:
            first = name.partition(".")[0] + "."
            firsts[first] = firsts.get(first, 0) + 1
    return ["", *(first for first, count in firsts.items() if count >= len(state) / 5)]
