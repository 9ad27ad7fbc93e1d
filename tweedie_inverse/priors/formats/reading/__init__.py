"""Files of weights, whatever their network: read without running them, bounded, averages found.

Nothing here knows a format's network; `tweedie_inverse.priors.formats` does.
"""
