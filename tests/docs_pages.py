"""The pages of the documentation as programs: their Python blocks, run in order in one namespace.

What a page says to the runner stands in HTML comments, which readers do not see:

- ``<!-- run`` newline, code, ``-->``: code that belongs to no reader: data that the page takes for
  granted, assertions about what a block made;
- ``<!-- not run: reason -->`` before a block that cannot run here;
- ``<!-- slow: reason -->`` anywhere: the page is left to ``make test-slow``.

``python -m tests.docs_pages docs/tutorials/your-mri.md`` runs a page as a reader would, prints what
it prints, and copies its pictures to ``docs/figures/tutorials``.
"""

import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

import tweedie_inverse as ti
from tweedie_inverse.priors import NetworkPrior

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = DOCS / "figures" / "tutorials"
_LARGE = 2**17  # bytes of a picture
# What takes long, and with which settings it does not.
SHORT = [
    *((ti, name, {"steps": 2}) for name in ("solve", "iterate", "sample", "trajectory")),
    (ti, "calibrate", {"steps": 2, "num_samples": 9, "power": False}),
    (ti.phase_space, "sample", {"steps": 2}),
]

_PART = re.compile(
    r"^```python\n(?P<block>.*?)^```$"
    r"|^<!-- run\n(?P<hidden>.*?)^-->$"
    r"|^<!-- not run: (?P<reason>.*?) -->$"
    r"|^```.*?^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Code:
    """A block of a page, or hidden code: `reason` says why it is not run."""

    text: str
    line: int
    shown: bool
    reason: str = ""


def pages() -> list[Path]:
    """Every page with Python in it."""
    found = [path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts]
    return [path for path in found if any(code.shown for code in codes_of(path))]


def name_of(page: Path) -> str:
    return str(page.relative_to(DOCS)).removesuffix(".md")


def is_slow(page: Path) -> bool:
    return "<!-- slow: " in page.read_text()


def codes_of(page: Path) -> list[Code]:
    """What the page runs, and what it shows without running it, from top to bottom."""
    text, codes, reason = page.read_text(), [], ""
    for part in _PART.finditer(text):
        if part["reason"]:
            reason = part["reason"]
            continue
        code = part["block"] if part["block"] is not None else part["hidden"]
        if code is not None:
            line = text.count("\n", 0, part.start()) + 2
            codes.append(Code(code, line, part["block"] is not None, reason))
        reason = ""
    return codes


def run(page: Path) -> None:
    """Run a page in the working folder; errors name its lines."""
    import matplotlib

    matplotlib.use("Agg")
    namespace: dict = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for code in codes_of(page):
            if not code.reason:
                text = "\n" * (code.line - 1) + code.text
                exec(compile(text, str(page), "exec"), namespace)


@contextlib.contextmanager
def few_steps() -> Iterator[None]:
    """Two steps and few samples: a page runs in seconds, and its numbers mean nothing."""
    with contextlib.ExitStack() as stack:
        for module, name, settings in SHORT:
            short = _with_settings(getattr(module, name), settings)
            stack.enter_context(mock.patch.object(module, name, short))
        yield


def _with_settings(function: Callable, settings: dict) -> Callable:
    """`function` with these settings; few samples of a network, nine else, as level 0.9 needs."""

    def short(*args, **options):
        most = 3 if any(isinstance(one, NetworkPrior) for one in args) else 9
        if "num_samples" in options:
            options["num_samples"] = min(options["num_samples"], most)
        if "count" in options:
            options["count"] = min(options["count"], 40)
        return function(*args, **{**options, **settings})

    return short


def _kept(picture: Path) -> Path:
    """The picture beside the others; photographs with 256 colours, a third of the size."""
    from PIL import Image

    PICTURES.mkdir(exist_ok=True)
    kept = PICTURES / picture.name
    with Image.open(picture) as image:
        image = image.convert("RGB")
        if picture.stat().st_size > _LARGE:
            image = image.quantize(256)
        image.save(kept, optimize=True)
    return kept


def main(names: list[str]) -> None:
    """Run pages as they stand, and keep their pictures."""
    for name in names:
        page, begin = Path(name).resolve(), time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            run(page)
            for picture in sorted(Path(folder).glob("*.png")):
                if f"figures/tutorials/{picture.name}" in page.read_text():
                    kept = _kept(picture)
                    print(f"{picture.name}: {kept.stat().st_size / 1024:.0f} KiB")
        print(f"{page.name}: {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
