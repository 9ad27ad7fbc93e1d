"""Benchmarks: quality and cost of the samplers, side by side in one run.

The top storey: it imports everything below, and nothing imports it but the command line.
"""

if (
    __name__ != "tweedie_inverse.benchmarks"
):  # a second copy of every class, which nothing would accept
    raise ImportError(
        f"{__name__} is the folder of tweedie_inverse.benchmarks seen from its repository; write "
        "'from tweedie_inverse import benchmarks'"
    )
