"""The first part of AutoAttack, apgd-ce: a first look, not AutoAttack."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (("apgd-ce", {}),)
