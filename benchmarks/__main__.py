"""``python -m tweedie_inverse.benchmarks``."""

from tweedie_inverse.benchmarks.harness.commands import main

main()
