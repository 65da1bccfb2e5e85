"""What the machine is asked for: devices, processes, files, downloads, progress.

No mathematics. May import `errors`.
"""
