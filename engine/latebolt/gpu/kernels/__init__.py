"""Programs for a CUDA device, in numba-cuda. Importing a module of this package imports numba: only those who
use a device may do so."""
