"""Argparse with short errors: what is wrong, the nearest right name, and where help is.

Argparse is what Python brings, has no dependencies of its own, and everything that is wanted of it
(sub-commands, groups of options, its own types) is there; click and typer would be one more package
for a new user to install, and rewrite the tables of `catalogue` as decorated functions.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from tweedie_inverse.app.catalogue.suggestions import nearest

# What begins with a dash and is a value all the same: numbers, lists and ranges of them.
_NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?((,|\.\.).*)?$")


class Parser(argparse.ArgumentParser):
    """The parser of the command line and, because it is, of its commands.

    Attributes:
        source: the file that the arguments come from, for messages; empty for the terminal.
    """

    source = ""

    def __init__(self, *given: Any, **settings: Any):
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*given, **settings)
        self._negative_number_matcher = _NEGATIVE

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse what is not known here, where the names are that it may have meant."""
        found, unknown = super().parse_known_args(args, namespace)
        for word in unknown:
            if word.startswith("-"):
                name = word.partition("=")[0]
                self.error(f"{name}: there is no such option{nearest(name, self.names())}")
        return found, unknown

    def names(self) -> list[str]:
        """All options of this command, ``--name``."""
        return [
            name
            for action in self._actions
            for name in action.option_strings
            if name.startswith("--")
        ]

    def error(self, message: str) -> NoReturn:
        """One line, where it comes from, and the way to the help."""
        chosen = re.match(
            r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)", message
        )
        if chosen:
            names = [name.strip(" '") for name in chosen[3].split(",")]
            message = f"{message}{nearest(chosen[2], names)}"
        source = f"{Parser.source}: " if Parser.source else ""
        self.exit(2, f"error: {source}{message}\n({self.prog} --help shows all)\n")
