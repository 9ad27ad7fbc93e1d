"""What a user who mistyped a name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str:
    """``"; did you mean ...?"`` where one of `names` is near, else nothing."""
    found = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
