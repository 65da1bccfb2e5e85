"""`jeat sample`: images by descent on an energy.

May import `checkpoints`, `methods`, `data`, `acceleration`, `core` and `runtime`.
"""
