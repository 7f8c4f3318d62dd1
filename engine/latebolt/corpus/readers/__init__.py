"""Readers of files: one module a kind, each with `read(path)`; `kinds` says which reads what."""
