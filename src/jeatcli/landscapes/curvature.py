"""How much the energy curves around an image, along the direction in which it curves most."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core import pgd
from ..core.rng import ImageRng

# The residual, relative to the eigenvalue, at which an image has settled, and the products of the
# Hessian with a vector after which it has to. The error is about the square of the residual.
_TOLERANCE, _MOST_PRODUCTS = 1e-3, 40


def top_eigenvalue(value: Callable[[Tensor], Tensor], x: Tensor, rng: ImageRng) -> Tensor:
    """Return the largest eigenvalue of each image's Hessian of `value`, shape (n,).

    By Lanczos iteration (Lanczos 1950). Images (n,C,H,W) do not influence one another; `rng` draws
    the first vectors. A network of piecewise linear layers has Hessian 0.
    """
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(x).sum(), x, create_graph=True)
    if not gradient.requires_grad:
        return x.new_zeros(len(x))

    def product(vectors: Tensor) -> Tensor:
        along = (gradient * vectors.view_as(x)).sum()
        (image,) = torch.autograd.grad(along, x, retain_graph=True, materialize_grads=True)
        return image.flatten(1).detach()

    start = pgd.normalize_l2(rng.normal(x.detach())).flatten(1)
    return _lanczos(product, start).to(x)


def _lanczos(product: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return the largest eigenvalue of each row's matrix, (n,) float64, of unit vectors (n, d).

    What is small is computed on the CPU, for Apple's devices have no float64.
    """
    basis = start[:, None]  # (n, steps, d), orthonormal
    steps = min(_MOST_PRODUCTS, start.shape[1])
    matrix = torch.zeros(len(start), steps, steps, dtype=torch.float64)
    found = torch.zeros(len(start), dtype=torch.float64)
    done = torch.zeros(len(start), dtype=torch.bool)
    for step in range(steps):
        image = product(basis[:, step])
        matrix[:, step, step] = (image * basis[:, step]).sum(1).cpu().double()
        for _ in range(2):  # once leaves what rounding has left
            parts = torch.einsum("nsd,nd->ns", basis, image)
            image = image - torch.einsum("nsd,ns->nd", basis, parts)
        rest = image.norm(dim=1, keepdim=True)
        beyond = rest[:, 0].cpu().double()
        top, residual = _top(matrix[:, : step + 1, : step + 1], beyond)
        # An image keeps its value once it has settled, whatever the others of its batch need.
        found = torch.where(done, found, top)
        done |= residual <= _TOLERANCE * top.abs()
        if done.all() or step + 1 == steps:
            break
        matrix[:, step, step + 1] = matrix[:, step + 1, step] = beyond
        basis = torch.cat([basis, (image / rest.clamp_min(1e-30))[:, None]], dim=1)
    return found


def _top(matrix: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest eigenvalue of symmetric matrices, and the residual of the whole ones.

    NaN, which `eigh` refuses, stays NaN; what lies outside the basis has the length `rest`.
    """
    finite = matrix.isfinite().flatten(1).all(1)
    values, vectors = torch.linalg.eigh(matrix.where(finite[:, None, None], 0.0))
    top = values[:, -1].where(finite, torch.nan)
    return top, rest * vectors[:, -1, -1].abs()
