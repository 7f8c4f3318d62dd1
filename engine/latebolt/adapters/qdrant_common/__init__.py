"""What the Qdrant adapters share: points and their shape, requests, storages, and what a push tries first.

`qdrant`, `qdrant_async` and `qdrant_edge` beside this folder are what users import.
"""
