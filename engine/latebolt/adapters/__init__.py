"""What other frameworks call, over latebolt's public surface: one module a framework.

A module imports its framework when it is imported itself, and says which package to install where it is not
there. Nothing below imports this package.
"""
