"""A walk as a film: GIF by Pillow, MP4 by the program ffmpeg."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tweedie_inverse.boundary.arguments import count, instance, positive
from tweedie_inverse.boundary.arguments import path as checked_path
from tweedie_inverse.runtime import atomic
from tweedie_inverse.solving.frames import AnyStep, Moment, frame, limits_of, moment_of

# The last picture is shown so many times as long as the others.
_LAST = 8


def animate(
    steps: Iterable[AnyStep],
    path: str | Path,
    *,
    samples: int = 4,
    every: int = 1,
    frames_per_second: float = 8.0,
) -> Path:
    """Walk to the end, and write the way there as a film.

    Every picture shows the noisy states of some walkers and below them the denoised images, which
    have one range of greys or colours from the first to the last: that of the prior where it is
    known and holds them, else that of the last ones.  Where the walkers go in several parts, it
    ends with the first part.

    Args:
        steps: of `iterate` or `trajectory`.
        path: ``.gif``, or ``.mp4`` where the program ffmpeg is installed.
        samples: how many of the walkers are shown, the first ones.
        every: take every so many steps, and the last one.
        frames_per_second: how fast it goes; the last picture stays eight times as long.

    Returns:
        The path.

    Raises:
        ValueError: another suffix, a file that cannot be written, or no steps.
        RuntimeError: there is no ffmpeg, or it failed.
        TypeError: something else than steps.
    """
    target = checked_path("animate", "path", path)
    if target.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"animate({str(path)!r}): writes films; the suffix must be .gif or .mp4")
    samples, every = count("animate", "samples", samples), count("animate", "every", every)
    rate = positive("animate", "frames_per_second", frames_per_second)
    need = "the steps of a walk, as of ti.iterate or ti.trajectory"
    instance("animate", "steps", steps, Iterable, need=need)
    ffmpeg = None if target.suffix.lower() == ".gif" else _ffmpeg(target)
    atomic.ready(target)
    moments = _moments(steps, samples, every)
    limits = limits_of(moments[-1])
    frames = [frame(moment, limits) for moment in moments]
    frames += [frames[-1]] * (_LAST - 1)
    film = _gif(frames, rate) if ffmpeg is None else _mp4(frames, rate, ffmpeg)
    atomic.replace(target, film)
    return target


def _moments(steps: Iterable[AnyStep], samples: int, every: int) -> list[Moment]:
    """What is kept of the first part of a walk."""
    kept: list[Moment] = []
    before = -1
    for step in steps:
        moment = moment_of("animate", step, samples)
        level = moment.level
        if level.index <= before:  # the next part
            break
        before = level.index
        if level.index % every == 0 or level.index == level.steps - 1:
            kept.append(moment)
    if not kept:
        raise ValueError("animate(steps=): there is no step; a generator gives its steps only once")
    return kept


def _gif(frames: Sequence[np.ndarray[Any, Any]], rate: float) -> bytes:
    from PIL import Image

    first, *others = [
        Image.fromarray(each).quantize(256, dither=Image.Dither.NONE) for each in frames
    ]
    file = io.BytesIO()
    # A GIF counts in hundredths of a second, and browsers slow down below two of them.
    hundredths = max(2, round(100 / rate))
    first.save(file, "GIF", save_all=True, append_images=others, duration=10 * hundredths, loop=0)
    return file.getvalue()


def _mp4(frames: Sequence[np.ndarray[Any, Any]], rate: float, ffmpeg: str) -> bytes:
    height, width, _ = frames[0].shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:g}"]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder, "walk.mp4")
        done = subprocess.run(
            [ffmpeg, "-loglevel", "error", *source, "-i", "-", "-pix_fmt", "yuv420p", str(film)],
            input=b"".join(each.tobytes() for each in frames),
            capture_output=True,
        )
        if done.returncode:
            *_, said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
            raise RuntimeError(f"animate: ffmpeg failed ({said}); write a .gif instead")
        return film.read_bytes()


def _ffmpeg(target: Path) -> str:
    """The program.

    Raises:
        RuntimeError: it is not installed.
    """
    found = shutil.which("ffmpeg")
    if found is None:
        raise RuntimeError(
            f"animate({str(target)!r}): needs the program ffmpeg, which was not found; install it, "
            f"or write {str(target.with_suffix('.gif'))!r}"
        )
    return found
