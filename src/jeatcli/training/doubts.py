"""What is odd about the settings of a run, said before it begins."""

import math
from collections.abc import Iterator

from ..checkpoints.header import Meta
from ..robustness import checks
from ..runtime.words import counted
from .settings import TrainConfig


def doubts(config: TrainConfig, meta: Meta) -> Iterator[str]:
    """Yield a warning for each setting that is probably meant otherwise."""
    if config.val_split and not config.eval_every:
        yield (
            f"{counted(config.val_split, 'training image')} held out, but never used with "
            "`--eval-every 0`; `--val-split 0` trains on them"
        )
    if "eps" in config.options and (odd := checks.scale(meta.threat, math.prod(meta.shape))):
        yield odd
