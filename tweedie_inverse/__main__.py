"""``python -m tweedie_inverse``."""

from .cli import main

main()
