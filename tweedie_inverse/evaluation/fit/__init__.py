"""The alarm for measurements that prior, operator and noise would not have made together.

A prior-predictive check: measurements of the prior's own images are the references, and one of the
user's is ranked among them.  It trusts operator and noise as it does the prior, and finds out
whether all three fit; whether error bars are right is asked in `evaluation.calibrate`.
"""
