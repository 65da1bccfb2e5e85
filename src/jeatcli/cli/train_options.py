"""The options of `jeat train`: what says nothing here is decided by `config.defaults`."""

from __future__ import annotations

from functools import partial

import click

from ..training.settings import OPTIMIZERS, SCHEDULES
from .method_options import (
    attack_options,
    data_options,
    method_options,
    model_options,
    sgld_options,
)
from .options import combine, device, option, output_options, seed
from .types import COUNT, FRACTION, NATURAL, NUMBERS, POSITIVE, SHARE

PRECISIONS = ("auto", "fp32", "bf16")

_optimise = partial(option, "Optimisation")
_machine = partial(option, "Machine")
_output = partial(option, "Output")

optimisation_options = combine(
    _optimise(
        "--epochs",
        help="Passes over the training images",
        type=COUNT,
        metavar="N",
        shown="by data set",
    ),
    _optimise(
        "--max-steps",
        help="End after N steps, be it within an epoch; 0 for no such end",
        type=NATURAL,
        metavar="N",
        shown="0",
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
        help="Optimiser: sgd (Nesterov momentum), heavy-ball (plain momentum) or adamw",
        type=click.Choice(OPTIMIZERS),
        metavar="OPTIMIZER",
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
        "--milestones",
        help="Shares of the run after which multi-step multiplies the rate",
        type=NUMBERS,
        metavar="SHARES",
        shown="0.5,0.75",
    ),
    _optimise(
        "--lr-decay",
        help="By how much multi-step multiplies the rate",
        type=SHARE,
        metavar="FLOAT",
        shown="0.1",
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
        help="Of the weights",
        type=FRACTION,
        metavar="FLOAT",
        shown="by method",
    ),
    _optimise(
        "--decay-norms/--no-decay-norms",
        help="Whether biases and normalisation layers decay too",
        default=None,
        shown="no",
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
    _machine(
        "--compile/--no-compile",
        help="Let torch compile the network: minutes at the start, faster steps after them",
        default=None,
        shown="no",
    ),
    device,
    _machine(
        "--profile",
        help="Measure a few steps: a table of where the time goes, and a trace beside the run",
        is_flag=True,
    ),
)
run_options = combine(
    _output(
        "-o",
        "--out",
        help="The run: a bare name among the runs, or a path with a slash or a dot",
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
        help="Epochs between measurements of accuracy; 0 for none",
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
