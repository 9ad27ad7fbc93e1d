"""PNG and JPEG by Pillow: whole numbers from black to white, no opacity, no palette."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.data import Data
from tweedie_inverse.io.accompany import Meaning
from tweedie_inverse.io.guarded import Refused, refuse_size
from tweedie_inverse.io.kinds import library
from tweedie_inverse.io.numbers import as_tensor, to_whole

_WHITE = {"1": 1.0, "L": 255.0, "RGB": 255.0, "I;16": 65535.0, "I;16B": 65535.0, "I": 65535.0}
_INCH = 25.4
_UPRIGHT = 1  # EXIF's number for "as it lies"
_ORIENTATION = 274


def read(path: Path, key: str | int | None) -> Data:
    if key is not None:
        raise Refused(f"key={key!r}: a picture holds one image, without a name")
    image_of = library("io.read", "png", "Image")
    operations = library("io.read", "png", "ImageOps")
    with open(path, "rb") as file:
        try:
            picture = image_of.open(file, formats=("PNG", "JPEG"))
        except image_of.DecompressionBombError as error:
            raise Refused(f"more pixels than Pillow opens: {error}") from error
        kind = picture.format.lower()
        if kind == "png":
            picture.verify()  # the sums of all its parts; after that it must be opened again
            file.seek(0)
            picture = image_of.open(file, formats=("PNG",))
        _refuse_what_is_more(picture, path, kind)
        refuse_size((picture.height, picture.width, len(picture.getbands())), 2)
        picture.load()
        turned = picture.getexif().get(_ORIENTATION, _UPRIGHT) if kind == "jpeg" else _UPRIGHT
        upright = operations.exif_transpose(picture) if turned != _UPRIGHT else picture
        pixels, white = np.array(upright), _WHITE[picture.mode]
        dpi = picture.info.get("dpi")
    image = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    spacing = None
    if dpi is not None and min(dpi) > 0:
        spacing = (_INCH / float(dpi[1]), _INCH / float(dpi[0]))
    return Data(
        as_tensor(image),
        kind,
        spacing=spacing,
        spacing_unit="mm" if spacing else "",
        value_range=(0.0, white),
        notes=("turned upright, as its EXIF data say",) * (turned != _UPRIGHT),
    )


def _refuse_what_is_more(picture: Any, path: Path, kind: str) -> None:
    """Pictures that hold more than brightnesses, or lose digits in Pillow."""
    if getattr(picture, "n_frames", 1) > 1:
        raise Refused(f"is an animation of {picture.n_frames} pictures; save the one you mean")
    if picture.mode not in _WHITE or "transparency" in picture.info:
        raise Refused(
            f"is a picture of mode {picture.mode!r}, which holds more than brightnesses (opacity, "
            "a palette, inks); convert it first, such as Image.open(path).convert('RGB').save(name)"
        )
    if kind == "png" and picture.mode == "RGB":
        with open(path, "rb") as file:
            depth = file.read(25)[24]
        if depth == 16:
            raise Refused(
                "is a colour PNG of 16 bits, of which Pillow would drop 8; convert it to TIFF"
            )


def write_png(values: np.ndarray[Any, Any], meaning: Meaning) -> bytes:
    image = values[0] if values.ndim == 3 and len(values) == 1 else values
    is_colour = image.ndim == 3 and len(image) == 3
    if not is_colour and image.ndim != 2:
        raise ValueError(
            f"a PNG holds one picture, (height, width), (1, height, width) or (3, height, width), "
            f"got {values.shape}; write one file for each, or all into a TIFF"
        )
    black, white = black_and_white("a PNG", image, meaning)
    top = _top(image, meaning, is_colour)
    whole = to_whole(image, black, white, top)
    pixels = np.ascontiguousarray(whole.transpose(1, 2, 0) if is_colour else whole)
    image_of, content = library("io.write", "png", "Image"), io.BytesIO()
    steps = meaning.in_millimetres()
    more = {} if steps is None else {"dpi": (_INCH / steps[-1], _INCH / steps[-2])}
    picture = image_of.fromarray(pixels)
    if top == 1:
        picture = image_of.fromarray(pixels.astype(bool))
    picture.save(content, format="PNG", **more)
    return content.getvalue()


def _top(image: np.ndarray[Any, Any], meaning: Meaning, is_colour: bool) -> int:
    """The whole number that white becomes: that of a picture like it, else of 16 bits for grey."""
    most, like = 255 if is_colour else 65535, meaning.like
    if image.dtype == np.uint8 or meaning.black_and_white is not None:
        return 255 if image.dtype == np.uint8 else most
    top = int(like.value_range[1]) if like is not None and like.value_range is not None else most
    if top > most or (image.dtype == np.uint16 and most < 65535):
        raise ValueError(
            f"values up to {max(top, int(image.max()))} need more than the {most.bit_length()} "
            "bits that a PNG has here; write a TIFF, or give value_range= to have them rounded"
        )
    return top


def black_and_white(
    what: str, image: np.ndarray[Any, Any], meaning: Meaning
) -> tuple[float, float]:
    """Black and white of values for a kind that holds whole numbers between them.

    Given ones, else those of the picture like it, where the values are whole as that picture's.

    Raises:
        ValueError: they are not known, or values lie outside.
    """
    if np.iscomplexobj(image) or not np.isfinite(image).all():
        raise ValueError(f"{what} holds no complex, NaN or infinite values; write a TIFF or an npz")
    low, high = float(image.min()), float(image.max())
    known = None if meaning.like is None else meaning.like.value_range
    ends = meaning.black_and_white
    if ends is None and bool((image == np.rint(image)).all()):
        ends = known or {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}.get(image.dtype.name)
    if ends is None:
        raise ValueError(
            f"{what} holds whole numbers from black to white: give value_range=(black, white) in "
            f"the units of the values, which go from {low:g} to {high:g}"
        )
    if low < ends[0] or high > ends[1]:
        raise ValueError(
            f"values from {low:g} to {high:g} are outside black and white, ({ends[0]:g}, "
            f"{ends[1]:g}), and {what} would cut them off; give a wider value_range="
        )
    return ends
