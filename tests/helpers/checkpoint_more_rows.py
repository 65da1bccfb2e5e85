"""More layouts of the same kinds, and the traps among them: what must not load in silence."""

from __future__ import annotations

from typing import Any

import torch

from . import checkpoint_layouts as lay
from .checkpoint_layouts import bare, numbers, placed, renamed, under, with_more
from .checkpoint_matrix import Row
from .checkpoint_rows import (
    B20,
    DM,
    DM18,
    JEM,
    PREACT,
    R18,
    R20,
    R50,
    RAW,
    W28,
    W34,
    WONG,
)


def ones(*names: str, size: tuple[int, ...] = (1,)) -> Any:
    """Return a layout of the weights under `model.`, and ones beside them."""
    return with_more(lambda w: {name: torch.ones(size) for name in names}, "model.")


def deepspeed(w: lay.Weights) -> Any:
    """Lay weights out as DeepSpeed."""
    return {"module": w, "ds_config": {"fp16": {}}, "global_steps": 3, "optimizer": None}


def composer(w: lay.Weights) -> Any:
    """Lay weights out as Composer, in a state."""
    state = {"model": under("module.", w), "optimizers": {"SGD": {"state": {}}}, "timestamp": {}}
    return {"state": state, "rng": [{"python": (3, (1, 2), None)}]}


def swa(w: lay.Weights) -> Any:
    """Lay weights out beside their average, and both beside numbers."""
    return {"state_dict": w, "swa_state_dict": lay.other(w), "swa_n": 10, "robust_acc": 0.5}


def without_counts(w: lay.Weights) -> Any:
    """Leave out what torch 0.3 did not count."""
    return {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")}


def parameters(w: lay.Weights) -> Any:
    """Return weights as they are in a network: parameters, of another memory layout."""
    form = torch.channels_last
    return {
        k: torch.nn.Parameter(v.to(memory_format=form)) if v.ndim == 4 else v for k, v in w.items()
    }


def pruned(w: lay.Weights) -> Any:
    """Return weights with masks, as `torch.nn.utils.prune` keeps them."""
    masks = {k + "_mask": torch.ones_like(v) for k, v in w.items() if v.ndim == 4}
    return {k + "_orig" if v.ndim == 4 else k: v for k, v in w.items()} | masks


def scored(w: lay.Weights) -> Any:
    """Return weights with scores beside them, as HYDRA's."""
    return w | {k[:-6] + "popup_scores": v for k, v in w.items() if v.ndim == 4}


def ensemble(w: lay.Weights) -> Any:
    """Lay weights out as one of two members."""
    return {**under("models.0.", w), **under("models.1.", lay.other(w))}


def student(w: lay.Weights) -> Any:
    """Lay weights out beside those of a teacher and an average."""
    other = lay.other(w)
    return {**under("teacher.", other), **under("ema_model.module.", other), **under("model.", w)}


MORE = [
    Row("hat-rade-r18", DM18, placed("module.0.", "model_state_dict")),
    Row("rst-normalize-input", W28, placed("module.", "state_dict", normalize_input=False)),
    Row("pang-bag-of-tricks", PREACT, placed("module.", "state_dict", opt_state={})),
    Row("gowal-bare-double", DM, lay.as_type(torch.float64)),
    Row("rebuffi-bf16", DM, lay.as_type(torch.bfloat16)),
    Row("wang-dm-safetensors", DM, bare, writer="safetensors"),
    Row("wang-dm-half-legacy", DM, lay.as_type(torch.half), writer="legacy"),
    Row("addepalli-oaat-swa", R18, swa),
    Row("sehwag-hydra-scores", W28, scored, verdict="not known to it"),
    Row("andriushchenko-fp16", WONG, lay.as_type(torch.half)),
    Row("engstrom-compiled", R50, placed("_orig_mod.module.model.")),
    Row("cohen-smoothing-r20", B20, placed("1.", "state_dict", arch="cifar_resnet20")),
    Row("salman-module-1", B20, placed("module.1.", "state_dict")),
    Row("croce-last-best", PREACT, lay.last_best),
    Row("wong-in-model", RAW, placed("", "model")),
    Row("lightning-net", R18, lambda w: lay.lightning(w, "net.")),
    Row("lightning-module", R18, lambda w: lay.lightning(w, "module.")),
    Row("lightning-compiled", R18, lambda w: lay.lightning(w, "model._orig_mod.")),
    Row("lightning-backbone", R18, lambda w: lay.lightning(w, "model.backbone.")),
    Row("ddp-of-compiled", W34, placed("module._orig_mod.", "model")),
    Row("student-and-teacher", W34, student),
    Row("deepspeed", R20, deepspeed),
    Row("composer", R20, composer),
    Row("torch-0.3-without-counts", R20, without_counts),
    Row("parameters-channels-last", R20, parameters),
    Row("head-called-classifier", R20, renamed(("linear", "classifier"))),
    Row("head-called-head", W34, renamed(("fc.", "head."))),
    Row("bearpaw-r20", B20, placed("module.", "state_dict", acc=93.0)),
    Row("means-and-sds", R18, with_more(lambda w: numbers("0.means", "0.sds"), "1."), asked=False),
    Row(
        "data-mean",
        R18,
        with_more(lambda w: numbers("data_mean", "data_std"), "net."),
        None,
        asked=False,
    ),
    Row(
        "normalize-mean",
        R18,
        with_more(lambda w: numbers("normalize.mean", "normalize.std"), "model."),
        asked=False,
    ),
    Row(
        "normalizer-mu",
        DM,
        with_more(lambda w: numbers("normalizer._mean", "normalizer._std"), "model."),
        asked=False,
    ),
    Row(
        "two-normalisations",
        R18,
        with_more(
            lambda w: (
                numbers("a.mean", "a.std") | {"b.mean": torch.zeros(3), "b.std": torch.ones(3)}
            ),
            "model.",
        ),
        verdict="b.mean, b.std",
    ),
    Row("jem-data-parallel", JEM, placed("module.", "model_state_dict")),
    Row("temperature-beside", R18, ones("temperature"), verdict="--entry model"),
    Row("temperature-taken", R18, ones("temperature"), {"entry": "model"}),
    Row(
        "denoiser-in-front",
        R18,
        with_more(lambda w: {"0.conv.weight": torch.ones(3, 3, 3, 3)}, "1."),
        verdict="0.conv.weight",
    ),
    Row(
        "layer-behind",
        R18,
        with_more(lambda w: {"1.weight": torch.ones(10, 10), "1.bias": torch.ones(10)}, "0."),
        verdict="1.weight",
    ),
    Row("projector-beside", R18, ones("projector.0.weight", size=(9, 9)), verdict="--entry model"),
    Row("metrics-beside", R18, ones("metrics.total", "val_acc.total", "criterion.weight")),
    Row("ensemble", R20, ensemble, verdict="several such networks"),
    Row("ensemble-chosen", R20, ensemble, {"entry": "models.0"}),
    Row("pruned", R20, pruned),
    Row(
        "one-block-more",
        W34,
        with_more(
            lambda w: {k.replace("layer.4", "layer.5"): v for k, v in w.items() if "3.layer.4" in k}
        ),
        verdict="not known to it",
    ),
    Row(
        "prelu",
        R20,
        with_more(lambda w: {"layer1.0.act.weight": torch.ones(1)}),
        verdict="not known to it",
    ),
    Row("another-number-of-classes", R20, bare, {"dataset": "cifar100"}, "of another shape"),
    Row("own-code-in-lightning", "kuangliu_vgg", lay.lightning),
    Row("own-code-compiled", "weiai_resnet18", placed("_orig_mod.module.", "model")),
    Row("own-code-average", "rb_huang2021", lay.averaged),
    Row("own-code-beside", "kuangliu_lenet", ones("temperature"), verdict="--entry model"),
    Row("own-code-half", "kuangliu_lenet", lay.as_type(torch.half)),
    Row("own-code-arguments", "trades_small_cnn", lay.arguments),
    Row("own-code-safetensors", "kuangliu_vgg", bare, writer="safetensors"),
    Row("own-code-twice", "rb_dai2021", student),
    Row("timm-by-name", "kuangliu_senet18", bare, {"arch": "timm:seresnet18"}),
    Row("timm-ema", "kuangliu_senet18", swa, {"arch": "timm:seresnet18"}),
    Row(
        "torchvision-by-name",
        "chenyaofo_shufflenet",
        lay.data_parallel,
        {"arch": "torchvision:shufflenet_v2_x0_5"},
    ),
    Row(
        "torchvision-mobilenet", "kuangliu_mobilenetv2", bare, {"arch": "torchvision:mobilenet_v2"}
    ),
    Row("torchvision-densenet", "kuangliu_densenet121", bare, {"arch": "torchvision:densenet121"}),
]
