"""The standard AutoAttack: apgd-ce, apgd-t, fab-t, square (Croce and Hein 2020a)."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (
    ("apgd-ce", {}),
    ("apgd-t", {}),
    ("fab-t", {}),
    ("square", {}),
)
