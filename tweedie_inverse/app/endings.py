"""How a command ends: whatever goes wrong is one line on the terminal and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tweedie_inverse.app.interrupts import leave_at_once, listen

# The input, the files, the packages or the numbers are at fault, and the message says how.
_EXPECTED = (ValueError, TypeError, OSError, ImportError, ArithmeticError, MemoryError)
WRONG, UNEXPECTED, BROKEN_PIPE, INTERRUPTED = 2, 1, 141, 130
# Set to anything, errors keep their traceback.
DEBUG = "TWEEDIE_INVERSE_DEBUG"


@contextmanager
def endings() -> Iterator[None]:
    """Run a command; every error becomes one line and an exit code.

    The code is 2 where the message says what to do, 1 for any other error, 130 after Ctrl-C, and
    141 where nobody reads the output any more, as after ``| head``.
    """
    listen()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        # Accelerators that are out of memory raise a RuntimeError, whose name says it all.
        expected = isinstance(error, _EXPECTED) or type(error).__name__ == "OutOfMemoryError"
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        if not expected:
            print(f"({DEBUG}=1 shows where)", file=sys.stderr)
        raise SystemExit(WRONG if expected else UNEXPECTED) from error
    finally:
        leave_at_once()  # what is left to do is python's own business


def in_one_line(error: BaseException) -> str:
    """What an error says; with its class, where it says too little without."""
    speaks = (ValueError, TypeError, OSError, ImportError, ArithmeticError)
    needs_a_name = (ZeroDivisionError, OverflowError)
    if isinstance(error, speaks) and not isinstance(error, needs_a_name) and str(error):
        return " ".join(str(error).split())
    lines = str(error).strip().splitlines()
    text = lines[0][:300] if lines else ""
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _discard_output() -> None:
    """Python flushes once more when it ends, and would complain again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
