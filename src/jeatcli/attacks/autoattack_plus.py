"""AutoAttack with five restarts and all parts: slower, hardly ever stronger."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (
    ("apgd-ce", {"restarts": 5}),
    ("apgd-dlr", {"restarts": 5}),
    ("fab", {"restarts": 5}),
    ("square", {}),
    ("apgd-t", {}),
    ("fab-t", {}),
)
