"""Judging posteriors and priors: calibration, metrics, and the self-test of a wrapped network.

It reads results and never changes how they are made; nothing that solves imports it.
"""
