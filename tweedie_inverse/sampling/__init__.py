"""The prior on its own: unconditional samples, and a denoising error measured on them.

Measurements and operators have no place here (`solving`).
"""
