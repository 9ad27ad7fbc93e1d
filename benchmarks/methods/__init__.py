"""The methods that suites compare: ours, classical ones, and deepinv's samplers.

A method knows a task and a prior; it must not know records, reports or the other methods.
"""
