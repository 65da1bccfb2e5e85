"""3x3 convolutions on a CPU by Winograd's algorithm.

May import what `acceleration` may.
"""
