"""Numerical tools that know nothing of priors or instruments: keyed random numbers, solvers.

Nothing here imports another part of this package.
"""
