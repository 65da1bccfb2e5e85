"""Models as files, and their names; every file is data, never code.

May import `data`, `core` and `runtime`.
"""
