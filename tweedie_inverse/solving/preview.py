"""A walk that is looked at while it goes: one picture in a notebook, drawn anew in its place."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tweedie_inverse.boundary.arguments import count, instance
from tweedie_inverse.runtime.notebook import has_display
from tweedie_inverse.solving.frames import AnyStep, frame, limits_of, moment_of

S = TypeVar("S", bound=AnyStep)


def preview(steps: Iterable[S], *, every: int = 1, samples: int = 4) -> Iterator[S]:
    """Pass the steps of a walk on, and show in a notebook where it stands.

    It draws the noisy states and below them the denoised images.  Outside of a notebook it passes
    the steps on and draws nothing.

    Args:
        steps: of `iterate` or `trajectory`.
        every: draw every so many steps, and the last one.
        samples: how many of the walkers are drawn, the first ones.

    Returns:
        The same steps, one after the other.

    Raises:
        TypeError: something else than steps.
        ValueError: no positive numbers.

    Example:
        ``for step in ti.preview(ti.iterate(y, operator, prior), every=5): ...``
    """
    every = count("preview", "every", every)
    samples = count("preview", "samples", samples)
    need = "the steps of a walk, as of ti.iterate or ti.trajectory"
    instance("preview", "steps", steps, Iterable, need=need)
    return _shown(steps, every, samples)


def _shown(steps: Iterable[S], every: int, samples: int) -> Iterator[S]:
    if not has_display():
        yield from steps
        return
    from PIL import Image

    show = _screen()
    for step in steps:
        index, last = step.level.index, step.level.steps - 1
        if index % every == 0 or index == last:
            moment = moment_of("preview", step, samples)
            show(Image.fromarray(frame(moment, limits_of(moment))))
        yield step


def _screen() -> Callable[[Any], None]:
    """What shows a picture in the place of the one before."""
    from IPython.display import display

    handle = None

    def show(picture: Any) -> None:
        nonlocal handle
        if handle is None:
            handle = display(picture, display_id=True)
        else:
            handle.update(picture)

    return show
