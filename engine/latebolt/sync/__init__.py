"""Keeps an index in line with files: what each was last time, one run over them, and watching them."""
