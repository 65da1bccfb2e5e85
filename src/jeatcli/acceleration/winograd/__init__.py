"""The kernel for convolutions on a CPU: Winograd's of 3x3, 1x1, and that of the pixels.

May import what `acceleration` may.
"""
