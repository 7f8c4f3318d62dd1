"""Kernels compiled ahead of time: one shared library a platform, how it is made and how it is loaded.

`python -m latebolt.kernels.build` makes it; where it is there and fits, nobody needs numba or llvmlite.
"""
