"""Smallest radii, image by image, against foolbox and adv-lib on the same network and images.

    pip install -e ".[reference]" adv-lib
    python benchmarks/minimum_norm.py RUN [-n 200] [--norm linf l2 l1] [--only adv-lib]

Each attack takes as many steps, every one a forward and a backward pass, of float32 and of bfloat16
for ours. Printed for each: the median over the images that are classified correctly, its ratio to
that of FMN here in float32, how many images are not broken, and the seconds of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import foolbox
import torch
from published_loops import plain
from torch import Tensor

from jeatcli.checkpoints.checkpoint import load
from jeatcli.checkpoints.settings import Foreign
from jeatcli.core.models.classifier import Classifier
from jeatcli.core.threat import NORMS
from jeatcli.data.images import load_images, to_unit_range
from jeatcli.robustness.attacks.attack import make_attack
from jeatcli.robustness.attacks.batch import AttackOptions, Batch
from jeatcli.robustness.attacks.surrogate import Surrogate
from jeatcli.robustness.minimum_norm import everywhere

# adv-lib draws by visdom, which these attacks do not use and which does not always install.
sys.modules.setdefault("visdom", ModuleType("visdom"))
from adv_lib.attacks import ddn, fmn  # noqa: E402

Attack = Callable[[], Tensor]


def ours(classifier: Classifier, x: Tensor, y: Tensor, norm: str, steps: int) -> Iterator[Attack]:
    """Yield FMN here, in float32 and in bfloat16."""
    options = AttackOptions(everywhere(norm, x.shape[1:]), steps=steps)
    batch = Batch(x, y, None, torch.arange(len(x)))
    for dtype in (None, torch.bfloat16):
        search = Surrogate(classifier, dtype)
        yield partial(make_attack("fmn", options), search, batch, options)


def theirs(
    classifier: Classifier, x: Tensor, y: Tensor, norm: str, steps: int
) -> Iterator[tuple[str, Attack]]:
    """Yield the attacks of the libraries."""
    net = plain(classifier).eval()
    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1))
    criterion = foolbox.criteria.Misclassification(y)
    zoo = foolbox.attacks
    kinds = {
        "linf": {"fmn": zoo.LInfFMNAttack},
        "l2": {"fmn": zoo.L2FMNAttack, "ddn": zoo.DDNAttack},
        "l1": {"fmn": zoo.L1FMNAttack},
    }

    def foolbox_attack(kind: Any) -> Tensor:
        moved: Tensor = kind(steps=steps)(wrapped, x, criterion, epsilons=None)[0]
        return moved

    for name, kind in kinds[norm].items():
        yield f"foolbox {name}", partial(foolbox_attack, kind)
    power = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    yield "adv-lib fmn", lambda: fmn(net, x, y, norm=power, steps=steps)
    if norm == "l2":
        yield "adv-lib ddn", lambda: ddn(net, x, y, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--norm", nargs="+", default=["linf", "l2"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=[""], help="how names of others begin")
    parser.add_argument("--public", action="store_true", help="RUN is the public ResNet-20")
    args = parser.parse_args()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    public = Foreign("cifar-resnet-20", "cifar10", mean=mean, std=std)
    foreign = public if args.public else None
    model = load(args.run, device="cpu", foreign=foreign)
    images = load_images(model.meta.dataset, "test", limit=args.n)
    x, y = to_unit_range(images.x), images.y
    with torch.no_grad():
        correct = model.classifier(x).argmax(1) == y
    x, y = x[correct], y[correct]
    print(f"{model.name}: {len(x)} of {args.n} images classified correctly, {args.steps} steps")
    for norm in args.norm:
        own = zip(
            ("here, fp32", "here, bf16"),
            ours(model.classifier, x, y, norm, args.steps),
            strict=True,
        )
        first = 0.0
        others = theirs(model.classifier, x, y, norm, args.steps)
        wanted = (each for each in others if each[0].startswith(tuple(args.only)))
        for name, attack in (*own, *wanted):
            began = time.process_time()
            moved = attack()
            seconds = time.process_time() - began
            with torch.no_grad():
                broken = model.classifier(moved).argmax(1) != y
            radii = NORMS.load(norm)(0.0).distance(moved, x).masked_fill(~broken, torch.inf)
            median = radii.quantile(0.5).item()
            first = first or median
            print(
                f"{norm:5} {name:12} median {median:.5f} ({median / first:.3f})  "
                f"{int((~broken).sum())} not broken  {seconds:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
