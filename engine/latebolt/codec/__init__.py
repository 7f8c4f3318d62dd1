"""How token vectors are stored: residual codes at 1, 2 or 4 bits a dimension, int8, or float16.

Every codec answers the same verbs (see `base.Codec`), so that the index above need not know which it has.
"""
