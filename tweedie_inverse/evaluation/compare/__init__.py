"""Which operator, noise level or prior made a measurement: candidates compared by their evidence.

It asks the particle walk for ``p(y)`` under each candidate, several times, and says how far the
answers can be trusted.  Whether the best candidate fits at all is the question of `evaluation.fit`.
"""
