"""The same functions of an image in less time.

Nothing may depend on it being there. May import `core` and `runtime`.
"""
