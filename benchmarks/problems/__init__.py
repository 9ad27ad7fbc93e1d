"""What is solved: tasks, suites of them, their priors, and the posterior where it is known.

The ground floor of the benchmarks: nothing here knows a method or the harness.
"""
