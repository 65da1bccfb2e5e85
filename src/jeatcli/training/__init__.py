"""`jeat train`: a run from its settings to its directory.

May import `robustness`, `sampling` and what they may.
"""
