"""How training scripts lay out the weights in a file: each takes a state dict, and returns it."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]
Layout = Callable[[Weights], Any]


def under(prefix: str, w: Weights) -> Weights:
    """Put a prefix before every name."""
    return {prefix + key: value for key, value in w.items()}


def other(w: Weights) -> Weights:
    """Return other weights of the same names, as an average or an earlier epoch has."""
    return {k: v + 0.01 if v.is_floating_point() else v.clone() for k, v in w.items()}


def renamed(*pairs: tuple[str, str], then: Layout = dict) -> Layout:
    """Return a layout with other names in it."""

    def layout(w: Weights) -> Any:
        for old, new in pairs:
            w = {key.replace(old, new): value for key, value in w.items()}
        return then(w)

    return layout


def placed(prefix: str, *keys: str, **beside: object) -> Layout:
    """Return a layout of dictionaries in dictionaries, the weights under a prefix."""

    def layout(w: Weights) -> Any:
        content: Any = under(prefix, w)
        for key in reversed(keys):
            content = {key: content, "epoch": 9, **beside}
        return content

    return layout


def with_more(more: Callable[[Weights], Weights], prefix: str = "", then: Layout = dict) -> Layout:
    """Return a layout of the weights under a prefix, and more beside them."""
    return lambda w: then({**more(w), **under(prefix, w)})


def numbers(mean: str, std: str, shape: tuple[int, ...] = (1, 3, 1, 1)) -> Weights:
    """Return the normalisation of the matrix under two names."""
    return {
        mean: torch.tensor([0.49, 0.48, 0.45]).view(shape),
        std: torch.tensor([0.25, 0.24, 0.26]).view(shape),
    }


def counted(w: Weights) -> Weights:
    """Return the count of an average."""
    return {"module.n_averaged": torch.tensor(100)}


def as_type(kind: torch.dtype) -> Layout:
    """Return a layout of another type of numbers."""
    return lambda w: {k: v.to(kind) if v.is_floating_point() else v for k, v in w.items()}


def madry(w: Weights) -> Any:
    """Lay weights out as MadryLab's robustness: an attacker with the network in it twice."""
    inside = numbers("normalizer.new_mean", "normalizer.new_std", (3, 1, 1))
    inside |= {f"attacker.normalize.{k.partition('.')[2]}": v for k, v in inside.items()}
    model = {**inside, **under("model.", w), **under("attacker.model.", w)}
    return {
        "model": under("module.", model),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": []},
        "schedule": None,
        "epoch": 150,
        "amp": None,
        "adv_prec1": torch.tensor(52.3),
    }


def mair(w: Weights, prefix: str = "model.", normalised: bool = False) -> Any:
    """Lay weights out as MAIR's RobModel, which records a normalisation that it does not apply."""
    inside = {"n_classes": torch.tensor(10)}
    if normalised:
        inside |= numbers("model.0.mean", "model.0.std")
    else:
        inside |= {"mean": torch.tensor([0.4914, 0.4822, 0.4465]), "std": torch.full((3,), 0.2)}
    return {"rmodel": {**inside, **under(prefix, w)}, "record_info": {"Clean": 80.1}}


def lightning(w: Weights, prefix: str = "model.") -> Any:
    """Lay weights out as a checkpoint of Lightning."""
    return {
        "epoch": 3,
        "global_step": 1000,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**under(prefix, w), "train_acc.correct": torch.tensor(9)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{}": {"best_model_score": torch.tensor(0.9)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "arch": "resnet18"},
    }


def dat_state(w: Weights) -> Any:
    """Lay weights out as the training state of DAT, with its average."""
    return {
        "model_state_dict": under("module.", w),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "ema_state_dict": {**under("module.module.", other(w)), **counted(w)},
        "training_state": {"step": 3, "best": 0.5},
        "metrics": {"acc": 0.8},
        "config": {"model": {"depth": 34}, "eps": 8 / 255},
        "wandb_run_id": "abc",
    }


def ema_alone(w: Weights) -> Any:
    """Lay weights out so that the average has them, and the plain ones are others."""
    state = dat_state(other(w))
    state["ema_state_dict"] = {**under("module.module.", w), **counted(w)}
    return state


def arguments(w: Weights) -> Any:
    """Lay weights out beside arguments, a path and numbers of numpy, as timm's train.py does."""
    return {
        "state_dict": w,
        "epoch": 3,
        "arch": "resnet18",
        "args": argparse.Namespace(lr=0.1, output=PosixPath("out"), amp=None, seed=[1, 2]),
        "metric": np.float64(0.81),
        "curve": np.zeros(3),
        "version": 2,
    }


def yopo(w: Weights) -> Weights:
    """Return the stages' second names, the same tensors: JEM++'s `yopo`."""
    inside = {k.removeprefix("f."): v for k, v in w.items() if k.startswith("f.")}
    first = {f"f.layer_one.{k[6:]}": v for k, v in inside.items() if k.startswith("conv1.")}
    rest = {k: v for k, v in inside.items() if re_stage(k)}
    return {**first, **{f"f.other_layers.{int(k[5]) - 1}{k[6:]}": v for k, v in rest.items()}}


def re_stage(name: str) -> bool:
    """Tell whether a name is of a stage."""
    return name.startswith("layer") and name[5].isdigit()


def jem_state(w: Weights) -> Any:
    """Lay weights out as JEM, beside its buffer."""
    return {"model_state_dict": w, "replay_buffer": torch.rand(10, 3, 32, 32)}


def dmat(w: Weights) -> Any:
    """Lay weights out as DM-Improves-AT: the average where others have the weights."""
    return {
        "model_state_dict": under("module.0.", w),
        "unaveraged_model_state_dict": under("module.0.", other(w)),
        "optimizer_state_dict": {},
        "epoch": 400,
    }


def last_best(w: Weights) -> Any:
    """Lay weights out as those of the last and of the best epoch."""
    return {"last": w, "best": other(w)}


bare: Layout = dict
data_parallel = placed("module.")
rice_best = placed("module.", "state_dict", test_robust_acc=0.5, test_acc=0.8)
kuangliu = placed("module.", "net", acc=95.1)
averaged = with_more(counted, "module.")
doubled = with_more(counted, "module.module.")
ordered: Layout = OrderedDict
compiled = placed("_orig_mod.")
