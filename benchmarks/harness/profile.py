"""Where the time of a solve goes: seconds inside of named functions, without those they call.

Wrappers are put round the functions while a profile is taken, in every module of the package that
has them, and are taken away again.  A clock is read twice a call: on an accelerator that does not
wait, so that seconds there are those of the CPU that asks, not of the device.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from typing import Any

from tweedie_inverse.numerics.spectral import Basis
from tweedie_inverse.priors.base import Prior

PACKAGE = "tweedie_inverse"
NETWORK, OTHER = "network", "other"
# Part -> functions, "module:name" or "module:Class.name".  What a part's functions call counts as
# theirs, unless it is of another part.
_FUNCTIONS = {
    "random numbers": ("numerics.streams:Streams.__init__", "numerics.streams:Streams.normal"),
    "covariance": (
        "walks.covariance_sources:Source.covariance",
        "walks.covariance_sources:Source.trusted",
    ),
    "linear solve": ("conditional.linear_gaussian:conditional_draw",),
    "operator": (
        "conditional.problem:Problem.forward",
        "conditional.problem:Problem.adjoint",
        "conditional.problem:Problem.normal",
    ),
    "checks and verdict": (
        "solving.setup:prepare",
        "solving.assembly:assemble",
        "solving.loop:_refuse_divergence",
    ),
}
PARTS = (NETWORK, *_FUNCTIONS, "transforms", OTHER)


class Profile:
    """Seconds by part, each without the parts inside of it.

    Attributes:
        seconds: by the names of `PARTS`.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    def _book(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Book the time until the end on a part, and then on the one round it."""
        self._book()
        self._running.append(part)
        try:
            yield
        finally:
            self._book()
            self._running.pop()

    def wrapped(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **settings: Any) -> Any:
            with self.inside(part):
                return function(*args, **settings)

        return timed


def profiled(function: Callable[[], Any]) -> dict[str, float]:
    """Seconds of one call, by part; their sum is the whole.

    Raises:
        AttributeError: a named function is no longer there, so that its part would be "other".
    """
    profile = Profile()
    undo: list[tuple[Any, str, Any]] = []
    try:
        for part, names in _FUNCTIONS.items():
            for name in names:
                undo += _replaced(name, partial(profile.wrapped, part=part))
        for base, methods, part in (
            (Basis, ("transform", "inverse"), "transforms"),
            (Prior, ("denoise",), NETWORK),
        ):
            for kind in _subclasses(base):
                for method in methods:
                    if method in vars(kind):
                        undo.append((kind, method, vars(kind)[method]))
                        setattr(kind, method, profile.wrapped(vars(kind)[method], part))
        with profile.inside(OTHER):
            function()
    finally:
        for owner, name, old in reversed(undo):
            setattr(owner, name, old)
    return profile.seconds


def _replaced(name: str, make: Callable[[Any], Any]) -> list[tuple[Any, str, Any]]:
    """Put another function in the place of a named one; what to undo, as owner, name and old."""
    module_name, _, path = name.partition(":")
    module = import_module(f"{PACKAGE}.{module_name}")
    if "." in path:
        kind, _, method = path.partition(".")
        owner = getattr(module, kind)
        old = vars(owner)[method]
        setattr(owner, method, make(old))
        return [(owner, method, old)]
    old = getattr(module, path)
    new, undo = make(old), []
    for holder in [one for key, one in sys.modules.items() if key.startswith(PACKAGE)]:
        if vars(holder).get(path) is old:
            undo.append((holder, path, old))
            setattr(holder, path, new)
    return undo


def _subclasses(kind: Any) -> Iterator[Any]:
    yield kind
    for below in kind.__subclasses__():
        yield from _subclasses(below)
