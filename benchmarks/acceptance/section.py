"""What a section of the page is, and how all of them are run within a budget of time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from tweedie_inverse.app.endings import in_one_line

PASS, FAIL, SKIPPED, NO_TIME = "pass", "FAIL", "skipped", "no time left"
# What keeps a machine from being accepted.
BAD = (FAIL, NO_TIME)


@dataclass(frozen=True)
class Setting:
    """What a section is asked for.

    Attributes:
        device: such as ``"cuda"``.
        reduced: small sizes, which show that everything runs and little about a large machine.
        seconds: for the whole page.
        begun: when, by `time.monotonic`.
    """

    device: str
    reduced: bool
    seconds: float
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.begun)

    @property
    def kind(self) -> str:
        return torch.device(self.device).type


class Outcome(NamedTuple):
    """What a section found: whether its target is met, and lines of Markdown.

    ``passed`` is None where there is nothing to judge; the first line says why.
    """

    passed: bool | None
    lines: list[str]


class Section(NamedTuple):
    """A question to a machine.

    Attributes:
        target: what it must find, in one line.
        run: finds out; whatever it raises is a failure of this section alone.
        least: seconds without which it is not begun.
    """

    name: str
    title: str
    target: str
    run: Callable[[Setting], Outcome]
    least: float = 10.0


class Judged(NamedTuple):
    """A section after its run."""

    section: Section
    verdict: str
    lines: list[str]
    seconds: float


def judged(
    sections: Sequence[Section], setting: Setting, log: Callable[[str], None] = print
) -> list[Judged]:
    """Run the sections in their order, whatever becomes of those before."""
    found = []
    for section in sections:
        log(f"{section.name} ...")
        found.append(_judged(section, setting))
        log(f"{section.name}: {found[-1].verdict}, {found[-1].seconds:.0f} s")
    return found


def _judged(section: Section, setting: Setting) -> Judged:
    if setting.left < section.least:
        text = f"{max(0.0, setting.left):.0f} s were left of {setting.seconds:.0f}"
        return Judged(section, NO_TIME, [text], 0.0)
    begin = time.monotonic()
    try:
        outcome = section.run(setting)
        verdict = {None: SKIPPED, True: PASS, False: FAIL}[outcome.passed]
        lines = outcome.lines
    except Exception as error:
        verdict, lines = FAIL, [f"It stopped with an error: {in_one_line(error)}"]
    finally:
        _clean(setting)
    return Judged(section, verdict, lines, time.monotonic() - begin)


def _clean(setting: Setting) -> None:
    """Leave nothing on an accelerator to the next section."""
    if setting.kind == "cuda":
        torch.cuda.empty_cache()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def in_time(names: Sequence[str], setting: Setting, share: float) -> Iterator[str]:
    """The names one by one, as long as a share of the time that is left now is not spent."""
    until = setting.left * (1 - share)
    for index, name in enumerate(names):
        if index > 0 and setting.left < until:
            return
        yield name
