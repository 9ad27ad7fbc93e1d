"""What `check_prior` does: errors measured, findings, the usable range, mistakes undone.

Each file is one step; `tweedie_inverse.evaluation.check_prior` takes them one after the other.
"""
