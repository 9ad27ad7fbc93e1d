"""Parallel- and fan-beam CT: geometry, Joseph's projector, filtered backprojection.

Everything here is two-dimensional; projectors of other libraries come in through `adapters`.
"""
