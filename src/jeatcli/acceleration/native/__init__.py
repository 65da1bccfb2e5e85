"""Our kernel in C++ for a CPU: convolutions, and what learns from them.

May import what `acceleration` may.
"""
