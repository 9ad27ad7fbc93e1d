"""How likely images are under a prior: the variational bound and the probability flow.

Measurements, operators and conditional walks have no place here.
"""
