"""AutoAttack for classifiers that draw at random: gradients averaged over 20 draws."""

PARTS: tuple[tuple[str, dict[str, int]], ...] = (
    ("apgd-ce", {"draws": 20}),
    ("apgd-dlr", {"draws": 20}),
)
