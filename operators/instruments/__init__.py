"""Instruments other than tomography, each in a file: blur, mask, downsampling, Fourier sampling.

An instrument knows its own physics and noise; it must not know priors or other instruments.
"""
