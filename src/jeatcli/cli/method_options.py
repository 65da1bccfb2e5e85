"""The options of `jeat train` that say what is trained, on what, and against what."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from .config_layers import read_config, read_preset
from .options import combine, data_dir, option, threat_options
from .types import (
    ACTIVATIONS,
    ARCH,
    COUNT,
    DATASET,
    FRACTION,
    KEY_VALUE,
    METHOD,
    NATURAL,
    NORM_LAYERS,
    POSITIVE,
    PRESET,
    SHARE,
)

_ATTACK = "Attack (methods with an inner attack)"
_method = partial(option, "Method")
_model = partial(option, "Model")
_data = partial(option, "Data")
_attack = partial(option, _ATTACK)
_sgld = partial(option, "SGLD (methods with a chain)")

method_options = combine(
    _method(
        "--method",
        help="What training lowers; listed below",
        type=METHOD,
        metavar="METHOD",
        shown="jeat",
    ),
    _method(
        "-O",
        "--option",
        help="An option of the method, such as lambda=0.5; repeatable, all with --dry-run",
        type=KEY_VALUE,
        metavar="KEY=VALUE",
        multiple=True,
    ),
    _method(
        "--preset",
        help="A published recipe, below what else is said; listed below",
        type=PRESET,
        metavar="NAME",
        is_eager=True,
        callback=read_preset,
    ),
    _method(
        "-c",
        "--config",
        help="Settings from a file, such as the config.toml of a run",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.toml",
        is_eager=True,
        callback=read_config,
    ),
)
model_options = combine(
    _model("--arch", help="Network; listed below", type=ARCH, metavar="ARCH", shown="by data set"),
    _model(
        "--norm-layer",
        help="batch, group or none; chains want none, which mixes no images",
        type=click.Choice(NORM_LAYERS),
        metavar="LAYER",
        shown="by method",
    ),
    _model(
        "--activation",
        help="Nonlinearity; chains want a smooth one",
        type=click.Choice(ACTIVATIONS),
        shown="by method",
    ),
)
data_options = combine(
    _data(
        "--dataset",
        help="What to train on; listed below",
        type=DATASET,
        metavar="DATASET",
        shown="cifar10",
    ),
    _data(
        "--limit",
        help="Use the first N training images; 0 for all",
        type=NATURAL,
        metavar="N",
        shown="0",
    ),
    _data(
        "--val-split",
        help="Training images held out, to keep the weights that are most robust on them",
        type=NATURAL,
        metavar="N",
        shown="by data set",
    ),
    data_dir,
)
attack_options = combine(
    threat_options(_ATTACK, "linf", "by data set"),
    _attack(
        "--attack-steps",
        help="Gradient steps; 1 is the single-step form with a random start",
        type=COUNT,
        metavar="N",
        shown="by architecture",
    ),
    _attack(
        "--attack-step-size",
        help="Length of a step in the [0, 1] pixel scale",
        type=POSITIVE,
        metavar="FRACTION",
        shown="2.5 eps / steps",
    ),
)
sgld_options = combine(
    _sgld(
        "--sgld-steps",
        help="Steps of the chain for each batch",
        type=NATURAL,
        metavar="N",
        shown="by architecture",
    ),
    _sgld(
        "--sgld-step-size",
        help="Factor of the energy's gradient, pixels in [0, 1]; JEM's 1 in [-1, 1] is 0.25 here",
        type=FRACTION,
        metavar="FLOAT",
        shown="0.25",
    ),
    _sgld(
        "--sgld-noise",
        help="Standard deviation of a step's noise; JEM's 0.01 is 0.005 here",
        type=FRACTION,
        metavar="FLOAT",
        shown="0.005",
    ),
    _sgld(
        "--buffer-size",
        help="Images in the replay buffer",
        type=COUNT,
        metavar="N",
        shown="by data set",
    ),
    _sgld(
        "--reinit",
        help="Probability that a chain starts anew",
        type=SHARE,
        metavar="SHARE",
        shown="0.05",
    ),
)
