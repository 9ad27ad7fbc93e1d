"""Noise models: Gaussian, Poisson, digitized; and a first estimate of a noise level.

A noise model knows measurements and their means, never the operator that makes them.
"""
