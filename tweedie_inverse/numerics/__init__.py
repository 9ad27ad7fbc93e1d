"""Numerical tools without images in mind: keyed random numbers, solvers, bases, covariances, grids.

The ground floor: it imports torch and nothing of this package.
"""
