"""The certificate of error bars: simulation-based calibration of a whole way from y to samples.

It draws truths, measures and solves, and ranks each truth among its samples; it changes nothing of
how they are made.  What a single posterior says of itself is in `solving.diagnostics`.
"""
