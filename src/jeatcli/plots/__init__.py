"""Results as figures; nothing is computed here that a result does not hold.

The only room with matplotlib. May import the verbs' results.
"""
