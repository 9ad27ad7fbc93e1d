"""Arrays of any kind as tensors: NumPy of every byte order and stride, complex numbers as channels.

The one place where a user's array becomes a tensor.  Nothing is guessed: pictures of whole numbers
and layouts with the channels last are recognised and refused, with advice (`images.as_image`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tweedie_inverse.boundary.datasets import images_in, is_dataset

_AS_IMAGE = "ti.as_image(array, value_range=(low, high)) makes an image of it"


def tensor_of(caller: str, name: str, value: Any) -> Tensor:
    """A tensor with the numbers of `value`: a tensor as it is, an array as it is or copied.

    Arrays that torch cannot share (byte order, negative strides, read-only) are copied.

    Args:
        value: a tensor, a NumPy array or number, anything that offers ``__array__``, a nested
            list of numbers, or a torch dataset or loader, whose images are stacked.

    Raises:
        TypeError: anything else, or an array of something other than numbers.
    """
    if isinstance(value, Tensor):
        _refuse_odd(caller, name, value)
        if value.is_inference() and not torch.is_inference_mode_enabled():
            return value.clone()  # of a tensor made under inference_mode no gradient can be taken
        return value
    if is_dataset(value):
        return dataset_tensor(caller, name, value)
    if _is_picture(value):
        raise TypeError(f"{caller}({name}=): got a picture of PIL; {_AS_IMAGE}")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(
            f"{caller}({name}=): is a masked array, and a mask would be lost; fill it, and leave "
            "missing data out with ops.Mask"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{caller}({name}=): needs a tensor or a NumPy array, got {type(value).__name__} "
            f"({error})"
        ) from None
    if array.dtype.kind not in "biufc":
        kind = type(value).__name__
        if isinstance(value, np.ndarray):
            kind = f"an array of {'text' if array.dtype.kind in 'US' else array.dtype.name}"
        raise TypeError(f"{caller}({name}=): needs a tensor or an array of numbers, got {kind}")
    if array.dtype.name in ("float128", "complex256", "longdouble", "clongdouble"):
        array = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()
    return torch.from_numpy(np.require(native, requirements="A"))


def dataset_tensor(caller: str, name: str, value: Any, *, most: int | None = None) -> Tensor:
    """The images of a torch dataset or loader, ``(count, *shape)``; see `datasets.images_in`.

    Args:
        most: how many are enough, of a dataset that may be larger than memory; None takes all.
    """
    as_tensor = partial(tensor_of, caller, f"an item of {name}")
    return images_in(caller, name, value, as_tensor, most=most)


def is_plain(values: Tensor) -> bool:
    """Whether a tensor holds its numbers densely; cheap enough for every call."""
    return not (values.is_nested or values.is_quantized or values.layout != torch.strided)


def _refuse_odd(caller: str, name: str, values: Tensor) -> None:
    """Raise a `TypeError` for tensors that most of torch cannot compute with."""
    if is_plain(values) and not (values.is_floating_point() and values.element_size() == 1):
        return
    if values.is_nested:
        kind = "a nested tensor; stack images of one shape with torch.stack"
    elif values.layout != torch.strided:
        kind = "a sparse tensor; use .to_dense()"
    else:
        kind = f"a tensor of {values.dtype}; use .float() or .dequantize()"
    raise TypeError(f"{caller}({name}=): needs a dense tensor of numbers, got {kind}")


def real_tensor(
    caller: str,
    name: str,
    value: Any,
    *,
    finite: bool = True,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`tensor_of`, for the numbers of an instrument or a prior: real, and finite.

    Args:
        dtype: of the result; None leaves it.

    Raises:
        TypeError: no array of real numbers.
        ValueError: NaN or infinity.
    """
    found = tensor_of(caller, name, value)
    if found.is_complex():
        raise TypeError(
            f"{caller}({name}=): needs real numbers, got {found.dtype}; the imaginary part would "
            "be lost"
        )
    if finite:
        refuse_infinite(caller, name, found)
    return found if dtype is None else found.to(dtype)


def truth_tensor(caller: str, value: Any, shape: Sequence[int], *, finite: bool = True) -> Tensor:
    """`real_tensor` of the image that is known, or of several; complex where images of `shape` are.

    Args:
        shape: of one image; of two channels where these are real and imaginary part.
    """
    found = tensor_of(caller, "truth", value)
    if found.is_complex() and len(shape) > 2 and shape[0] == 2:
        refuse_infinite(caller, "truth", found)
        return _channels_of(found, tuple(shape))
    return real_tensor(caller, "truth", found, finite=finite)


def complex_tensor(caller: str, name: str, value: Any) -> Tensor:
    """`tensor_of` as complex128, finite; real numbers have an imaginary part of 0."""
    found = tensor_of(caller, name, value).to(torch.complex128)
    refuse_infinite(caller, name, found)
    return found


def refuse_infinite(caller: str, name: str, values: Tensor) -> None:
    """Raise a `ValueError` that counts NaN and infinity, and says where the first one is."""
    refuse_meta(caller, name, values)
    if not (values.is_floating_point() or values.is_complex()):
        return
    bad = ~values.isfinite()
    if bool(bad.any()):
        place = tuple(bad.nonzero()[0].tolist())
        where = f", the first at index {place}" if place else ""
        raise ValueError(
            f"{caller}({name}=): holds {int(bad.sum())} NaN or infinite entries of "
            f"{values.numel()}{where}"
        )


def refuse_meta(caller: str, name: str, values: Tensor) -> None:
    """Raise a `TypeError` for a tensor that has a shape and no numbers."""
    if values.is_meta:
        raise TypeError(
            f"{caller}({name}=): is on the meta device, which holds no numbers; move it to the CPU "
            "or to an accelerator"
        )


def batch_of(
    caller: str,
    name: str,
    value: Any,
    shape: Sequence[int],
    *,
    is_complex: bool = False,
    single: bool = False,
    need: str = "",
) -> Tensor:
    """Images or measurements ``(batch, *shape)`` in float32 or float64.

    Args:
        single: take one without the batch axis, too, and give it back without.  A first axis of
            length 1 may be missing there: a sinogram ``(angles, detectors)`` is one of shape ``(1,
            angles, detectors)``.
        need: what the message asks for; default the shape.
        is_complex: whether the first axis of `shape` holds real parts, then imaginary parts;
            complex numbers are then taken, too.

    Raises:
        TypeError: not numbers, whole numbers, half precision, or complex where that means nothing.
        ValueError: another shape.
    """
    wanted = tuple(shape)
    found = tensor_of(caller, name, value)
    refuse_meta(caller, name, found)
    if found.dtype == torch.uint8:
        refuse_type(caller, found)
    if found.is_complex():
        if not is_complex:
            refuse_type(caller, found)
        found = _channels_of(found, wanted)
    if single and (1, *found.shape) == wanted:
        found = found[None]
    if tuple(found.shape[1:]) != wanted and not (single and tuple(found.shape) == wanted):
        batch = f"(batch, {', '.join(map(str, wanted))})"
        need = need or f"needs {'images of ' * single}shape {batch}{', or one of them' * single}"
        raise ValueError(
            f"{caller}: {need}, got {tuple(found.shape)}{advice_on_shape(found.shape, wanted)}"
        )
    refuse_type(caller, found)
    return found


def refuse_type(caller: str, values: Tensor) -> None:
    """Raise a `TypeError` that says what to do with numbers that are not float32 or float64."""
    if values.dtype in (torch.float32, torch.float64):
        return
    if values.is_floating_point():
        cure = "use .float(): sums over an image lose all digits in half precision"
    elif values.is_complex():
        cure = "real and imaginary parts are two channels"
    elif values.dtype == torch.uint8:
        cure = f"for a picture of 0 to 255, {_AS_IMAGE}"
    else:
        cure = "convert it first, to the data's units"
    raise TypeError(f"{caller}: needs float32 or float64, got {values.dtype}; {cure}")


def advice_on_shape(got: Sequence[int], wanted: Sequence[int]) -> str:
    """What a wrong shape looks like, as the end of a message; empty where nothing fits."""
    got, wanted = tuple(got), tuple(wanted)
    last = (*wanted[1:], *wanted[:1])
    if len(wanted) == 3 and got[-3:] == last and got[-3:] != wanted:
        return "; that looks like (height, width, channels): ti.as_image puts the channels first"
    if got == wanted:
        return "; a single one needs a batch axis too, such as x[None]"
    if (1, *got) == wanted:
        return "; a single one needs batch and channel axes too, such as x[None, None]"
    turned = (*wanted[:-2], *wanted[:-3:-1])
    if len(wanted) > 1 and turned != wanted and got in (turned, turned[1:]):
        return "; its last two axes are the other way round: transpose them"
    if len(got) == len(wanted) and wanted[0] == 1 and got[1:] == wanted[1:]:
        return "; a batch without channels needs their axis too, such as x[:, None]"
    return ""


def refuse_spread(
    caller: str, name: str, got: Sequence[int], wanted: Sequence[int], what: str
) -> None:
    """Raise a `ValueError` where numbers of shape `got` are not for each entry of one `what`.

    They may be fewer (broadcast to it), but never more: a batch axis would be one more.
    """
    got, wanted = tuple(got), tuple(wanted)
    fits = len(got) <= len(wanted) and all(
        mine in (1, other) for mine, other in zip(reversed(got), reversed(wanted), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{caller}: {name} has shape {got}, which does not broadcast to one {what}, {wanted}; "
            "it is the same for every one of a batch"
        )


def _channels_of(values: Tensor, wanted: tuple[int, ...]) -> Tensor:
    """Complex numbers as real parts, then imaginary parts, along the first axis of `wanted`.

    Values of another shape are left as they are, for the message.
    """
    half = (wanted[0] // 2, *wanted[1:])
    for shape in (wanted[1:], half) if wanted[0] == 2 and len(wanted) > 1 else (half,):
        for lead in ((), values.shape[:1]):
            if tuple(values.shape) == (*lead, *shape):
                parts = torch.stack([values.real, values.imag], dim=len(lead))
                return parts.reshape(*lead, *wanted)
    return values.real


def _is_picture(value: Any) -> bool:
    """Whether this is an image of PIL, which need not be installed."""
    return type(value).__module__.partition(".")[0] == "PIL"
