"""FAB toward the nearest boundary of all classes (Croce and Hein 2020b)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .batch import Batch, Plan
from .fab_walk import Walk, from_starts
from .surrogate import Search


def unfit(classes: int, targeted: bool, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Refuse a class to reach."""
    if targeted:
        return "attack `fab` aims at no class", "use `--attack fab-t`, alone or beside others"
    return None


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1
) -> Tensor:
    """Return adversarial images where FAB finds one in the ball."""

    def boundary(search: Search, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
        return nearest(search, batch, moved, plan.threat.norm)

    return from_starts(Walk(search, boundary, plan, steps), batch, restarts)


def nearest(search: Search, batch: Batch, moved: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Linearise f[k] - f[y] for the class k whose boundary is nearest in the norm.

    The gradients of all classes are needed: one forward pass, K backward passes.
    """
    with torch.enable_grad():
        moved = moved.detach().requires_grad_(True)
        logits = search(moved)
        leads = logits - logits.gather(1, batch.y[:, None])
        last = logits.shape[1] - 1
        value, shortest = leads.new_zeros(len(moved)), leads.new_full((len(moved),), torch.inf)
        normal = torch.zeros_like(moved)
        # The nearest so far alone is kept: all K gradients of a large batch are much memory.
        for k in range(last + 1):
            (slope,) = torch.autograd.grad(leads[:, k].sum(), moved, retain_graph=k < last)
            flat = slope.flatten(1)
            dual = flat.abs().sum(1) if norm == "linf" else flat.norm(dim=1)
            distance = leads[:, k].detach().abs() / (dual + 1e-12)
            nearer = (distance < shortest) & (batch.y != k)
            shortest = torch.where(nearer, distance, shortest)
            value = torch.where(nearer, leads[:, k].detach(), value)
            normal = torch.where(nearer.view(-1, 1, 1, 1), slope, normal)
    search.backward += len(moved) * (last + 1)
    return value, normal
