"""FAB: the nearest point beyond the decision boundary, by projections (Croce and Hein 2020b)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...core import energy, objectives, pgd
from ...core.threat import NORMS
from .batch import AttackOptions, Batch
from .restarts import Broken, Nearest, from_starts, tries
from .surrogate import Surrogate

# The paper's constants: the largest weight of the original image in a step, the extrapolation
# beyond the boundary, and how far an adversarial point is drawn back to the image.
WEIGHT = 0.1
OVERSHOOT = 1.05
BACK = 0.9

# The difference of two logits that is to become positive (n,), and its gradient.
Boundary = Callable[[Surrogate, Batch, Tensor], tuple[Tensor, Tensor]]


def fab(
    surrogate: Surrogate,
    batch: Batch,
    options: AttackOptions,
    *,
    steps: int,
    restarts: int,
    nearest: bool = False,
    each_class: bool = False,
) -> Tensor:
    """Return adversarial images where FAB toward the nearest boundary finds one in the ball.

    With `nearest` the search goes on for the nearest one, with `each_class` toward the boundary
    of each of the likeliest classes.
    """
    threat, norm = options.threat, NORMS.load(options.threat.norm)
    classes = surrogate.likeliest(batch) if each_class else None
    boundary = class_boundary if each_class else partial(nearest_boundary, norm=threat.norm)
    walk = Walk(surrogate, boundary, options, steps)
    broken = Nearest(batch, norm(threat.eps)) if nearest else Broken(batch)
    # Images that are broken as they are need no walk.
    with torch.no_grad():
        broken.mask = surrogate.broken(batch, batch.x, surrogate(batch.x))

    def search(restart: int, part: Batch, left: Tensor, broken: Broken) -> None:
        toward = None if classes is None else classes[left]
        rows, rngs = tries(part, options.seed, restart, toward)
        # From the images themselves, then from random points half a radius away.
        half = norm(broken.limit(left, threat.eps).view(-1, 1, 1, 1) / 2)
        starts = [half.on_sphere(part.x, rng) if restart else part.x for rng in rngs]
        walk.run(rows, left.repeat(len(rngs)), torch.cat(starts), broken)

    return from_starts(surrogate, batch, restarts, search, broken)


fab_t = partial(fab, each_class=True)


def boundaries(
    surrogate: Surrogate, batch: Batch, moved: Tensor, norm: str
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield f[k] - f[y] (n,), its gradient, and the gradient's dual norm (n,), for each class k.

    One forward pass, K backward passes. One gradient is there at a time: all K of a large batch
    would be much memory.
    """
    with torch.enable_grad():
        moved = moved.detach().requires_grad_(True)
        logits = surrogate(moved)
        leads = logits - logits.gather(1, batch.y[:, None])
        totals = leads.sum(0).unbind()
    surrogate.backward += len(moved) * len(totals)
    for k, total in enumerate(totals):
        (slope,) = torch.autograd.grad(total, moved, retain_graph=k < len(totals) - 1)
        yield leads[:, k].detach(), slope, dual_norm(slope.flatten(1), norm) + 1e-12


def nearest_boundary(
    surrogate: Surrogate, batch: Batch, moved: Tensor, norm: str
) -> tuple[Tensor, Tensor]:
    """Linearise f[k] - f[y] for the class k whose boundary is nearest in the norm."""
    value, shortest = moved.new_zeros(len(moved)), moved.new_full((len(moved),), torch.inf)
    normal = torch.zeros_like(moved)
    for k, (lead, slope, dual) in enumerate(boundaries(surrogate, batch, moved, norm)):
        distance = lead.abs() / dual
        nearer = (distance < shortest) & (batch.y != k)
        shortest = torch.where(nearer, distance, shortest)
        value = torch.where(nearer, lead, value)
        normal = torch.where(nearer.view(-1, 1, 1, 1), slope, normal)
    return value, normal


def class_boundary(surrogate: Surrogate, batch: Batch, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Linearise f[t] - f[y], with t the class that the row tries.

    If t is the class to reach, it must lead all others, not y alone.
    """
    assert batch.toward is not None
    toward = batch.toward

    def lead(logits: Tensor) -> Tensor:
        if batch.target is not None:
            return -objectives.margin(logits, toward)
        return energy.joint(logits, batch.y) - energy.joint(logits, toward)

    value, normal, _ = surrogate.gradient(lead, moved)
    return value, normal


def dual_norm(gradient: Tensor, norm: str) -> Tensor:
    """Return how fast the steepest step of a norm raises functions of these gradients (n, d)."""
    if norm == "linf":
        return gradient.abs().sum(1)
    return gradient.abs().amax(1) if norm == "l1" else gradient.norm(dim=1)


@dataclass(frozen=True)
class Walk:
    """FAB on one kind of boundary."""

    surrogate: Surrogate
    boundary: Boundary  # linearises the boundary that a row walks to
    # For norm and radius: an image is broken once its distance is at most the radius.
    options: AttackOptions
    steps: int

    def run(self, batch: Batch, image: Tensor, start: Tensor, broken: Broken) -> None:
        """Walk from `start`, and add what breaks to `broken`; broken images leave at once."""
        threat, moved = self.options.threat, start
        ball = pgd.ball(threat)
        for _ in range(self.steps):
            if not len(image):
                return
            self.surrogate.on_step()
            moved = self._step(batch, moved, ball)
            with torch.no_grad():
                beyond = batch.broken(self.surrogate(moved))
            near = beyond & (ball.distance(moved, batch.x) <= broken.limit(image, threat.eps))
            broken.add(image, moved, self.surrogate.confirmed(batch, moved, near))
            drawn_back = batch.x + BACK * (moved - batch.x)
            moved = torch.where(beyond.view(-1, 1, 1, 1), drawn_back, moved)
            if (gone := broken.mask[image]).any():
                keep = (~gone).nonzero().squeeze(1)
                batch, image, moved = batch.take(keep), image[keep], moved[keep]

    def _step(self, batch: Batch, moved: Tensor, ball: pgd.Ball) -> Tensor:
        """Go beyond the linearised boundary, nearer to the image than the last point was."""
        value, normal = self.boundary(self.surrogate, batch, moved)
        at_image = value + (normal * (batch.x - moved)).flatten(1).sum(1)
        norm = self.options.threat.norm
        to_boundary = displacement(moved, normal, value, norm)
        from_image = displacement(batch.x, normal, at_image, norm)
        nothing = torch.zeros_like(to_boundary)
        lengths = [ball.distance(d, nothing).clamp_min(1e-8) for d in (to_boundary, from_image)]
        share = (lengths[0] / (lengths[0] + lengths[1])).clamp_max(WEIGHT).view(-1, 1, 1, 1)
        forward, back = moved + OVERSHOOT * to_boundary, batch.x + OVERSHOOT * from_image
        mixed = (1 - share) * forward + share * back
        return mixed.clamp_(0, 1)


# The nearest point of a hyperplane inside the box [0, 1]: the step that FAB is made of. Croce and
# Hein sort the pixels. The displacement has one unknown, how far the pixels that are still free
# have moved, and what they contribute is a concave, piecewise linear function of it, so that
# Newton's method from zero ends at the solution in a few steps.
_MOST_STEPS = 100
_TOLERANCE = 1e-6


def displacement(x: Tensor, normal: Tensor, gap: Tensor, norm: str) -> Tensor:
    """Return the smallest d for which <normal, d> = -gap and x + d is in [0, 1].

    x are points (n, C, H, W) in [0, 1], `normal` is of their shape, and `gap` the planes' function
    at x (n,). Where no point of the box is on the plane, d leads to the box's nearest point to it.
    """
    along = -torch.where(gap >= 0, 1.0, -1.0).view(-1, 1, 1, 1) * normal.sign()
    weight, room = normal.abs(), torch.where(along > 0, 1 - x, x)
    if norm == "l1":
        return along * _steepest_first(weight, room, gap.abs())
    # At the same unknown a pixel moves as fast as its neighbour in linf, by its weight in l2.
    speed = along.abs() if norm == "linf" else weight
    return along * torch.minimum(_extent(weight, speed, room, gap.abs()) * speed, room)


def _steepest_first(weight: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Return how far each pixel moves if those of most weight move first, until `need` is met."""
    flat, order = weight.flatten(1).sort(dim=1, descending=True)
    most = room.flatten(1).gather(1, order)
    gains = flat * most
    missing = need[:, None] - (gains.cumsum(1) - gains)
    moved = torch.minimum((missing / flat.clamp_min(1e-30)).clamp_min(0), most) * (flat > 0)
    return torch.zeros_like(moved).scatter(1, order, moved).view_as(weight)


def _extent(weight: Tensor, speed: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """Return s (n, 1, 1, 1) for which the sum of weight * min(s * speed, room) is `need`."""
    weight, speed, room = (part.flatten(1) for part in (weight, speed, room))
    rate = weight * speed
    extent = torch.zeros_like(need)
    for _ in range(_MOST_STEPS):
        free = extent[:, None] * speed < room
        reached = torch.where(free, extent[:, None] * rate, weight * room).sum(1)
        missing = need - reached
        slope = (rate * free).sum(1)
        going = (missing > _TOLERANCE * need) & (slope > 0)
        if not going.any():
            break
        extent = torch.where(going, extent + missing / slope.clamp_min(1e-30), extent)
    return extent.view(-1, 1, 1, 1)
