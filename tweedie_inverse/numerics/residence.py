"""Where constants live: the numbers of an instrument or a table, once for each device and type.

An instrument is made on the CPU, and mostly in float64; images are float32 and may be elsewhere.
To send a mask along with every product would cost an accelerator more than the product.  So a
constant is asked for here, ``resident(self.mask, x)``, and its copy is made once.

Copies belong to the tensor and not to the object that holds it: they go when the tensor goes, they
are in no deep copy or pickle of its owner, and an owner that is given another tensor has other
copies.  A tensor that was changed in place is copied anew.  Tensors whose gradient is wanted, and
those of inference mode, which count no changes, are converted at every call.
"""

import weakref
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

# Forms of one tensor that are kept: a few types on a few devices, and what is made of it.
_FORMS = 16
# Of tensors above this size no wider copy is kept beside them: it would be larger than they are.
_LARGE = 2**24


class _Kept:
    """The forms of one tensor, the latest use last."""

    __slots__ = ("forms", "of", "version")

    def __init__(self, constant: Tensor, forget: Callable[[weakref.ref], None]):
        self.of, self.version = weakref.ref(constant, forget), constant._version
        self.forms: dict[Hashable, Tensor] = {}

    def is_of(self, constant: Tensor) -> bool:
        return self.of() is constant and self.version == constant._version


# By the identity of the tensor.  There is no lock: threads that meet here make a form twice.
_kept: dict[int, _Kept] = {}


def resident(constant: Tensor, like: Tensor) -> Tensor:
    """`constant` with the number type and on the device of `like`; not to be written to."""
    return resident_as(constant, like.dtype, like.device)


def resident_on(constant: Tensor, device: torch.device) -> Tensor:
    """`constant` on a device, such as an index; not to be written to."""
    return resident_as(constant, constant.dtype, device)


def resident_as(constant: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`constant` with this number type on this device; not to be written to."""
    if constant.dtype == dtype and constant.device == device:
        return constant
    is_wider = constant.device == device and dtype.itemsize > constant.dtype.itemsize
    if is_wider and constant.numel() > _LARGE:
        return constant.to(dtype)
    return _form(constant, (dtype, device), lambda: _converted(constant, dtype, device))


def resident_table(table: Tensor, device: torch.device) -> Tensor:
    """A table in float64 on a device; where the device has no float64, as it is."""
    return table if device.type == "mps" else resident_on(table, device)


def derived(constant: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """``function(constant)``, made once; not to be written to.

    Args:
        function: of a module, by which the result is found again; not a lambda made for the call.
    """
    return _form(constant, function, lambda: function(constant))


def _converted(constant: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if constant.ndim == 0 and constant.device.type == "cpu":
        # A single number goes along with the command, and is no transfer.
        return torch.full((), constant.item(), dtype=dtype, device=device)
    return constant.to(device=device, dtype=dtype)


def _form(constant: Tensor, name: Hashable, make: Callable[[], Tensor]) -> Tensor:
    if torch.compiler.is_compiling() or constant.requires_grad or constant.is_inference():
        return make()
    kept = _kept.get(id(constant))
    if kept is None or not kept.is_of(constant):
        kept = _entered(constant)
    found = kept.forms.pop(name, None)
    if found is None:
        # Whoever asks first may be in a mode whose tensors are of no use to others.
        with torch.inference_mode(False), torch.no_grad():
            found = make()
        if found is constant or torch._C._functorch.is_functorch_wrapped_tensor(found):
            return found  # kept, it would outlive its owner, or the transform that it is part of
        if found._is_view():  # its base may be the constant, which would then never go
            found = found.clone()
    kept.forms[name] = found
    if len(kept.forms) > _FORMS:
        kept.forms.pop(next(iter(kept.forms)), None)
    return found


def _entered(constant: Tensor) -> _Kept:
    key = id(constant)

    def forget(reference: weakref.ref, kept: dict[int, _Kept] = _kept) -> None:
        # Not the global name, which is gone when the interpreter ends.
        gone = kept.get(key)
        if gone is not None and gone.of is reference:  # the number may be another tensor's by now
            kept.pop(key, None)

    kept = _kept[key] = _Kept(constant, forget)
    return kept
