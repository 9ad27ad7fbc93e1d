"""Judging posteriors and priors: calibration, scores, metrics, the self-test of a network.

It reads results and never changes how they are made; nothing that solves imports it.
"""
