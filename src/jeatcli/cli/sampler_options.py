"""The options of the descents by which `sample` and `score` draw."""

from __future__ import annotations

from functools import partial

import click

from .options import combine, compiled, option
from .types import COUNT, DESCENTS, FRACTION, NATURAL, SAMPLERS, SIGNED, STARTS

_sampler = partial(option, "Sampler (an option that the sampler does not have is refused)")
sampler_options = combine(
    _sampler(
        "--sampler",
        help="Langevin dynamics; steps of one length; PGD in an l2 ball around the start",
        type=click.Choice(SAMPLERS),
        shown="by method",
    ),
    _sampler(
        "--objective",
        help="Descended: joint E(x,y), ce, or marginal E(x), which knows no class",
        type=click.Choice(DESCENTS),
        metavar="ENERGY",
        shown="by method, else joint; ce (pgd)",
    ),
    _sampler(
        "--init",
        help="Start: noise, the class's Gaussian or PCA, the training's buffer or images",
        type=click.Choice(STARTS),
        shown="gaussian",
    ),
    _sampler("--steps", help="Gradient steps", type=NATURAL, metavar="N", shown="100, 33, 60"),
    _sampler(
        "--step-size",
        help="Factor of the gradient (sgld), l2 length of a step (others), pixels in [0, 1]",
        type=FRACTION,
        metavar="FLOAT",
        shown="the run's (sgld), by image size",
    ),
    _sampler(
        "--noise",
        help="Standard deviation of the noise of a step (sgld)",
        type=FRACTION,
        metavar="FLOAT",
        shown="the run's",
    ),
    _sampler(
        "--temperature",
        help="T, in place of the noise: sqrt(2 * step size * T / (1 - momentum)) (sgld)",
        type=FRACTION,
        metavar="FLOAT",
    ),
    _sampler(
        "--momentum",
        help="Part of the last step that is repeated, below 1 (sgld)",
        type=FRACTION,
        metavar="FLOAT",
        shown="0",
    ),
    _sampler(
        "--clip",
        help="Largest component of the gradient, 0 for no limit (sgld)",
        type=FRACTION,
        metavar="FLOAT",
        shown="the run's, else 1; 0 with --temperature",
    ),
    _sampler(
        "--eps",
        help="l2 radius around the start, pixels in [0, 1] (pgd)",
        type=FRACTION,
        metavar="FLOAT",
        shown="by image size",
    ),
    _sampler(
        "--stop",
        help="An image rests once its objective is as low as this",
        type=SIGNED,
        metavar="ENERGY",
    ),
    _sampler(
        "--best-of",
        help="Candidates an image; the one of the lowest objective is kept",
        type=COUNT,
        metavar="K",
        shown="1",
    ),
    option(
        "Machine",
        "--precision",
        help="Of the descent: bf16 where it is faster (auto) gives other images",
        type=click.Choice(["fp32", "bf16", "auto"]),
        shown="fp32",
    ),
    compiled,
)
