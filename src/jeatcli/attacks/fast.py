"""The first two parts of AutoAttack, apgd-ce and apgd-t: a preview, not AutoAttack."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (
    ("apgd-ce", {}),
    ("apgd-t", {}),
)
