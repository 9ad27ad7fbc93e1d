"""Ctrl-C while the command line is being imported or ends: quiet, with exit code 130.

Imports take seconds, and no ``try`` of ours is round those of the package itself.  A program that
imports the package for itself is left alone.  Importing this file begins it.
"""

import os
import signal
import sys
import threading
from pathlib import Path

_COMMAND = "tweedie-inverse"
_MODULES = ("tweedie_inverse", "tweedie_inverse.benchmarks")
_STUDIES = "tweedie_inverse.benchmarks.studies."


def _is_command() -> bool:
    """Whether this process is ``tweedie-inverse ...`` or ``python -m`` one of the modules."""
    name, words = sys.argv[0] if sys.argv else "", sys.orig_argv
    if name == "-m":  # as long as python looks for the module
        module = words[words.index("-m") + 1]
        return module in _MODULES or module.startswith(_STUDIES)
    return Path(name).stem == _COMMAND


IS_COMMAND = _is_command()


def leave_at_once() -> None:
    """Let Ctrl-C end the process on the spot: where nothing is under way that could be lost."""
    if _is_ours(signal.default_int_handler):
        signal.signal(signal.SIGINT, _leave)


def listen() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, as python does."""
    if _is_ours(_leave):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_ours(handler: object) -> bool:
    """Whether this command may change what Ctrl-C does, and it does `handler` now."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return IS_COMMAND and in_main_thread and signal.getsignal(signal.SIGINT) is handler


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)


leave_at_once()
