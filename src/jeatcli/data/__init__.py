"""Images and labels: where they come from, how they lie in memory, how pictures are read.

May import `core` and `runtime`.
"""
