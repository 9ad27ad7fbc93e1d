"""Parallel- and fan-beam CT: geometry, Joseph's projector, filtered backprojection.

Everything here is two-dimensional; other engines come in through `adapters`.
"""
