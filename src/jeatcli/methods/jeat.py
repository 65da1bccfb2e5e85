"""JEAT: CE(x^) + lambda [E(x^) - E(x_K)], PGD on E(x, y) (Zhu et al. 2021)."""

from __future__ import annotations
