"""The options of `jeat train`: what says nothing here is decided by `config.defaults`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..config import SCHEDULES
from .options import (
    combine,
    data_dir,
    device,
    option,
    output_options,
    read_config,
    seed,
    threat_options,
)
from .parameters import (
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
    SHARE,
)

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("auto", "fp32", "bf16")

_ATTACK = "Attack (methods with an inner attack)"
_method = partial(option, "Method")
_model = partial(option, "Model")
_data = partial(option, "Data")
_attack = partial(option, _ATTACK)
_sgld = partial(option, "SGLD (methods with a chain)")
_optimise = partial(option, "Optimisation")
_machine = partial(option, "Machine")
_output = partial(option, "Output")

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
optimisation_options = combine(
    _optimise(
        "--epochs",
        help="Passes over the training images",
        type=COUNT,
        metavar="N",
        shown="by data set",
    ),
    _optimise(
        "-b",
        "--batch-size",
        help="Images a step",
        type=COUNT,
        metavar="N",
        shown="by method",
    ),
    _optimise(
        "--optimizer",
        help="SGD with Nesterov momentum, or AdamW",
        type=click.Choice(OPTIMIZERS),
        shown="by method",
    ),
    _optimise(
        "--lr",
        help="Highest learning rate",
        type=POSITIVE,
        metavar="FLOAT",
        shown="by method",
    ),
    _optimise(
        "--schedule",
        help="Course of the rate: one-cycle, cosine, multi-step or constant",
        type=click.Choice(SCHEDULES),
        metavar="SCHEDULE",
        shown="one-cycle",
    ),
    _optimise(
        "--warmup",
        help="Share of the run over which the rate rises from zero",
        type=SHARE,
        metavar="SHARE",
        shown="0.1",
    ),
    _optimise(
        "--weight-decay",
        help="Of the weights; biases and normalisation layers have none",
        type=FRACTION,
        metavar="FLOAT",
        shown="by method",
    ),
    _optimise(
        "--momentum",
        help="Of SGD, or the first beta of AdamW",
        type=SHARE,
        metavar="FLOAT",
        shown="0.9",
    ),
    _optimise(
        "--grad-clip",
        help="Largest norm of the gradient; 0 for no limit",
        type=FRACTION,
        metavar="FLOAT",
        shown="by method",
    ),
    _optimise(
        "--ema",
        help="Decay of the average of the weights that is saved; 0 for none",
        type=SHARE,
        metavar="FLOAT",
        shown="by architecture",
    ),
    _optimise(
        "--retries",
        help="How often a run that diverged goes back to its last good state",
        type=NATURAL,
        metavar="N",
        shown="3",
    ),
    seed("Optimisation"),
)
machine_options = combine(
    _machine(
        "--precision",
        help="Of the network's inside; energies and losses are fp32 always",
        type=click.Choice(PRECISIONS),
        shown="auto",
    ),
    device,
)
run_options = combine(
    _output(
        "-o",
        "--out",
        help="The run: a bare name among the runs, or a path with a slash",
        type=str,
        metavar="RUN",
        shown="DATASET-METHOD-ARCH",
    ),
    _output("--force", help="Start anew where there is a run of other settings", is_flag=True),
    _output("--dry-run", help="Print every setting as TOML, ready for -c, and stop", is_flag=True),
    _output(
        "--sample-every",
        help="Epochs between grids of samples; 0 for none",
        type=NATURAL,
        metavar="EPOCHS",
        shown="5",
    ),
    _output(
        "--eval-every",
        help="Epochs between evaluations on test images; 0 for none",
        type=NATURAL,
        metavar="EPOCHS",
        shown="5",
    ),
    _output(
        "--save-every",
        help="Time between saves of the state within an epoch",
        type=COUNT,
        metavar="SECONDS",
        shown="300",
    ),
    output_options,
)

train_options = combine(
    method_options,
    model_options,
    data_options,
    attack_options,
    sgld_options,
    optimisation_options,
    machine_options,
    run_options,
)
