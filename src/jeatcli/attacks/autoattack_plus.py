"""AutoAttack with all its parts, those that are not targeted from five starts."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (
    ("apgd-ce", {"restarts": 5}),
    ("apgd-dlr", {"restarts": 5}),
    ("fab", {"restarts": 5}),
    ("square", {}),
    ("apgd-t", {}),
    ("fab-t", {}),
)
