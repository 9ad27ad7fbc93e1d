"""Third-party packages that only the benchmarks need: asked for before any work is done."""

import importlib.util
from collections.abc import Iterable

EXTRA = "benchmarks"


def require(packages: Iterable[str], what: str) -> None:
    """Check that all packages are installed.

    Raises:
        ImportError: says which are missing, what needs them, and the extra that brings them.
    """
    missing = [name for name in dict.fromkeys(packages) if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)}, needed for {what}, cannot be found in this environment: "
            f'pip install "tweedie-inverse[{EXTRA}]", or "FILE.whl[{EXTRA}]" for a wheel'
        )
