"""``N(m, V) p(y | x)``: a measurement as a problem, exact draws, and Hamiltonian moves.

It knows operators, noise and covariances; it must not know priors, noise levels or walks.
"""
