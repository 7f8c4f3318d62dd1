"""A tar of wheels and a model that installs on a machine without a network.

`target` says what runs there, `wheels` chooses and fetches, `model_files` chooses what of a model is needed,
`archive` writes the tar with what is said beside them, `make` is the whole of it.
"""
