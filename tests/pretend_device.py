"""A device that is none: tensors that claim to be elsewhere, for tests on a machine without any.

Their numbers lie in a tensor of the CPU, and every operation is done there.  What a real
accelerator refuses is refused, and what would cost it time is counted by the line that asked:

    transfers    numbers that go from the CPU to the device or back
    readbacks    numbers that Python asks for (``float``, ``bool``, ``item``), for which it waits

It is made of torch's Python backend for the device key that is free for others (PrivateUse1).
Speed, memory and rounding of a device are not shown.
"""

import sys
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

NAME = "elsewhere"
_CPU = torch.device("cpu")
_ASKING = ("item", "tolist", "equal", "allclose", "is_nonzero")
_ASKING += tuple(f"__{kind}__" for kind in ("float", "int", "bool", "index", "complex", "contains"))
_MOVES = (torch.ops.aten._to_copy, torch.ops.aten.to)
# Operations that take indices or masks of the CPU on any device.
_INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)

# A view that is conjugated or negated later would be seen as it was before.
_LATER = {
    torch.ops.aten._conj.default: torch.ops.aten.conj_physical.default,
    torch.ops.aten._neg_view.default: torch.ops.aten.neg.default,
}

_inside: list["Elsewhere"] = []


def device() -> torch.device:
    """The device, registered once; the calling test is skipped where torch has no such backend."""
    try:
        return torch.device(NAME, 0)
    except RuntimeError:
        pass
    try:
        from torch.utils import backend_registration

        backend_registration._setup_privateuseone_for_python_backend(NAME)
    except (ImportError, AttributeError, RuntimeError) as error:
        pytest.skip(f"this torch cannot pretend a device: {error}")
    # Of `torch.random.fork_rng`, which later tests of the same process may call: it has no numbers.
    module = getattr(torch, NAME)
    module.get_rng_state = lambda device=NAME: torch.get_rng_state()
    module.set_rng_state = lambda state, device=NAME: None
    return torch.device(NAME, 0)


class There(Tensor):
    """A tensor of the pretended device around one of the CPU."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        like = here if here.layout is torch.strided else torch.empty(here.shape, device="meta")
        there = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=like.stride(), dtype=here.dtype, device=device()
        )
        there.here = here
        return there

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"There({self.here!r})"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in _ASKING:
            for one in _inside:
                one.readbacks[one.line()] += 1
            return func(*tree_map(_here, args), **tree_map(_here, kwargs or {}))
        if name in ("numpy", "__array__"):
            raise TypeError(f"a tensor on {NAME} has no array; call .cpu() first")
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _done(func, args, kwargs or {})


def _here(value):
    return value.here if isinstance(value, There) else value


def _done(func, args, kwargs):
    """The result of an operation, on the device where it would be."""
    tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
    there = [one for one in tensors if isinstance(one, There)]
    here = [one for one in tensors if not isinstance(one, There)]
    func = _LATER.get(func, func)
    packet, wanted = func.overloadpacket, kwargs.get("device")
    goes_there = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if wanted is not None:
        kwargs = {**kwargs, "device": _CPU if goes_there else wanted}
    if packet in _MOVES:
        _count_transfer(bool(there) != goes_there)
    elif packet is torch.ops.aten.copy_:
        _count_transfer(bool(there) and bool(here))
        goes_there = isinstance(args[0], There)
    elif there:
        _refuse_mixture(func, here)
    result = func(*tree_map(_here, args), **tree_map(_here, kwargs))
    if args and isinstance(args[0], There) and result is args[0].here:
        return args[0]  # it was changed in place
    if not goes_there:
        return result
    wrap = lambda one: There(one) if isinstance(one, Tensor) else one  # noqa: E731
    return tree_map(wrap, result)


def _refuse_mixture(func, here: list[Tensor]) -> None:
    indices = func.overloadpacket in _INDEXING
    shapes = [
        tuple(one.shape)
        for one in here
        if one.ndim and not (indices and one.dtype in (torch.int64, torch.bool))
    ]
    if shapes:
        raise RuntimeError(
            f"Expected all tensors to be on the same device: {func} was given one of {NAME} and "
            f"of the CPU {shapes}"
        )


def _count_transfer(is_one: bool) -> None:
    for one in _inside if is_one else ():
        one.transfers[one.line()] += 1


class Elsewhere(TorchDispatchMode):
    """While it is entered, the device can be used, and its costs are counted.

    Args:
        watched: parts of file names; costs are booked on the innermost line of such a file.
    """

    def __init__(self, watched: tuple[str, ...] = ("tweedie_inverse/", "operators/")):
        super().__init__()
        self.device, self.watched = device(), watched
        self.transfers: Counter[str] = Counter()
        self.readbacks: Counter[str] = Counter()

    def clear(self) -> None:
        self.transfers.clear()
        self.readbacks.clear()

    def line(self) -> str:
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if name != __file__ and any(part in name for part in self.watched):
                return f"{'/'.join(name.split('/')[-2:])}:{frame.f_lineno}"
            frame = frame.f_back
        return "a test"

    def __enter__(self) -> "Elsewhere":
        _inside.append(self)
        # Else torch.tensor(..., device=) reaches the device without passing by here.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error) -> None:
        _inside.remove(self)
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _done(func, args, kwargs or {})
