"""The options that describe a checkpoint which `jeat train` did not write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, cast

import click

from ..checkpoints.settings import Foreign
from .options import F, combine, option
from .types import ACTIVATIONS, ARCH, DATASET, NORM_LAYERS, NUMBERS

_foreign = partial(option, "Checkpoints of others (RUN is a state dict that jeat did not write)")
_described = {
    "arch": _foreign(
        "--arch", help="Its network; `jeat train --help` lists them", type=ARCH, metavar="ARCH"
    ),
    "dataset": _foreign(
        "--dataset", help="What it was trained on", type=DATASET, metavar="DATASET"
    ),
    "mean": _foreign(
        "--mean",
        help="Its normalisation, by channel; --mean 0 --std 1 for pixels as they are",
        type=NUMBERS,
        metavar="R,G,B",
        shown="the file's, else the data set's",
    ),
    "std": _foreign(
        "--std",
        help="The standard deviation that belongs to the mean",
        type=NUMBERS,
        metavar="R,G,B",
        shown="the file's, else the data set's",
    ),
    "norm_layer": _foreign(
        "--norm-layer",
        help="Its normalisation layers",
        type=click.Choice(NORM_LAYERS),
        metavar="LAYER",
        shown="batch",
    ),
    "activation": _foreign(
        "--activation", help="Its nonlinearity", type=click.Choice(ACTIVATIONS), shown="relu"
    ),
    "entry": _foreign(
        "--entry",
        help="Where in the file the weights are, such as ema or last",
        metavar="NAME",
        shown="state_dict, model, ...",
    ),
}


def foreign_options(dataset: bool = True) -> Callable[[F], F]:
    """Take what describes somebody else's checkpoint, and give it to the command as `foreign`.

    The command gets a `Foreign`, or None where none of the options was used.

    Args:
        dataset: Whether `--dataset` is one of them; else it is the command's own.
    """
    options = {name: each for name, each in _described.items() if dataset or name != "dataset"}

    def decorate(function: F) -> F:
        @wraps(function)
        def described(*args: Any, **settings: Any) -> Any:
            taken = {name: settings.pop(name) for name in options}
            said = {name: value for name, value in taken.items() if value is not None}
            return function(*args, foreign=Foreign(**said) if said else None, **settings)

        return combine(*options.values())(cast(F, described))

    return decorate
