"""`jeat attack`: attacks, and the accuracy that they leave.

May import `checkpoints`, `data`, `acceleration`, `core` and `runtime`.
"""
