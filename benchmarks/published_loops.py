"""Training steps written as the published codes are, to measure ours against.

Float32, contiguous, a `DataLoader` over PIL images, `loss.backward()` in the attack with weights
that want gradients (Madry-style codes), `retain_graph=True` in the chain and a replay buffer on
the CPU (Grathwohl et al. 2020). What they compute is what `jeatcli.methods` computes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from jeatcli.core.models.classifier import Classifier
from jeatcli.data.images import Images
from jeatcli.training.settings import TrainConfig


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets give them: one PIL image at a time, transformed."""

    def __init__(self, images: Images) -> None:
        self.x, self.y = images.x.cpu(), images.y.tolist()
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(images.shape[1], padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.x[index]), self.y[index]


def plain(classifier: Classifier) -> nn.Module:
    """Return the same network in float32 and torch's default memory layout, training."""
    parts = copy.deepcopy(nn.Sequential(classifier.normalize, classifier.net))
    return parts.to(memory_format=torch.contiguous_format).requires_grad_(True).train()


class Published:
    """The loop of `at`, `jem` or `jeat` around a network.

    Args:
        config: The settings of the run that it is compared with.
        model: From `plain`.
        images: The training images.
    """

    def __init__(self, config: TrainConfig, model: nn.Module, images: Images) -> None:
        self.config, self.model = config, model
        self.options: Mapping[str, Any] = config.options
        self.device = next(model.parameters()).device
        kind: Any = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.SGD
        extra = {} if config.optimizer == "adamw" else {"momentum": config.momentum}
        self.optimizer = kind(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, **extra
        )
        # No workers: they would compute while the other contender is timed.
        self.loader = DataLoader(
            Pictures(images), config.batch_size, shuffle=True, drop_last=True, num_workers=0
        )
        self.batches = self._cycle()
        self.buffer = torch.rand(self.options.get("buffer_size", 0), *images.shape)

    def _cycle(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def step(self) -> float:
        """Take one step on the next batch; return the loss."""
        x, y = (part.to(self.device) for part in next(self.batches))
        if self.config.method == "jem":
            x = x + self.options["input_noise"] * torch.randn_like(x)
        else:
            x = self.attack(x, y)
        logits = self.model(x)
        loss = F.cross_entropy(logits, y)
        if self.config.method in ("jem", "jeat"):
            loss = (
                loss
                - logits.logsumexp(1).mean()
                + self.model(self.chain(len(x))).logsumexp(1).mean()
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def attack(self, x: Tensor, y: Tensor) -> Tensor:
        """Move the images by PGD, the gradient of the weights computed and thrown away."""
        eps, size = self.options["eps"], self.options["attack_step_size"]
        self.model.eval()
        delta = torch.zeros_like(x).uniform_(-eps, eps)
        delta.data = (x + delta.data).clamp(0, 1) - x
        delta.requires_grad = True
        for _ in range(self.options["attack_steps"]):
            logits = self.model(x + delta)
            if self.options["attack_objective"] == "joint":
                loss = -logits.gather(1, y[:, None]).sum()
            else:
                loss = F.cross_entropy(logits, y)
            loss.backward()
            assert delta.grad is not None
            moved = (delta.data + size * delta.grad.sign()).clamp(-eps, eps)
            delta.data = (x + moved).clamp(0, 1) - x
            delta.grad.zero_()
        self.model.train()
        return (x + delta).detach()

    def chain(self, count: int) -> Tensor:
        """Draw negatives by SGLD from the buffer, which lies on the CPU."""
        places = torch.randint(0, len(self.buffer), (count,))
        fresh = torch.rand(count, *self.buffer.shape[1:])
        anew = (torch.rand(count) < self.options["reinit"]).float()[:, None, None, None]
        x = (anew * fresh + (1 - anew) * self.buffer[places]).to(self.device)
        self.model.eval()
        x.requires_grad = True
        for _ in range(self.options["sgld_steps"]):
            rise = torch.autograd.grad(self.model(x).logsumexp(1).sum(), [x], retain_graph=True)[0]
            noise = self.options["sgld_noise"] * torch.randn_like(x)
            x.data += self.options["sgld_step_size"] * rise.clamp(-1, 1) + noise
            x.data.clamp_(0, 1)
        self.model.train()
        end: Tensor = x.detach()
        self.buffer[places] = end.cpu()
        return end
