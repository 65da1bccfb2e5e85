"""FAB toward the nearest boundary of all classes (Croce and Hein 2020b)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageProblem
from ._base import Batch, Plan
from ._fab import Walk, from_starts
from ._search import Search


def perturb(
    search: Search, batch: Batch, plan: Plan, *, steps: int = 100, restarts: int = 1
) -> Tensor:
    """Return adversarial images where FAB finds one in the ball.

    Raises:
        UsageProblem: If there is a class to reach; `fab-t` is the attack for that.
    """
    if batch.target is not None:
        raise UsageProblem("attack `fab` aims at no class", "use `--attack fab-t`")

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
        last = logits.shape[1] - 1
        slopes = torch.stack(
            [
                torch.autograd.grad(logits[:, k].sum(), moved, retain_graph=k < last)[0]
                for k in range(last + 1)
            ],
            dim=1,
        )
    search.backward += len(moved) * (last + 1)
    rows = torch.arange(len(moved), device=moved.device)
    leads = (logits - logits[rows, batch.y][:, None]).detach()
    normals = slopes - slopes[rows, batch.y][:, None]
    flat = normals.flatten(2)
    dual = flat.abs().sum(2) if norm == "linf" else flat.norm(dim=2)
    distance = leads.abs() / (dual + 1e-12)
    chosen = distance.scatter(1, batch.y[:, None], torch.inf).argmin(1)
    return leads[rows, chosen], normals[rows, chosen]
