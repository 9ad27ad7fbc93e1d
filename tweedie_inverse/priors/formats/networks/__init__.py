"""Architectures of published networks, rebuilt so that their weights can be loaded.

Plain modules: no file is read here, and no unit or noise schedule is known.
"""
