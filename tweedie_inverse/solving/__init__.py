"""The verb `solve`: the checked call, the one loop over noise levels, and the posterior.

Walks and priors are only called here.  The folder is not named `solve`, because the function of
that name in `tweedie_inverse` would hide it.
"""
