"""`jeat score`: how good images and confidences are.

May import `sampling` and what it may.
"""
