"""The rows of the matrix: whose file, which network, which layout, what is expected."""

from __future__ import annotations

from functools import partial

import torch

from . import checkpoint_layouts as lay
from .checkpoint_layouts import bare, data_parallel, kuangliu, placed, renamed, rice_best
from .checkpoint_matrix import Row

# Networks of `public_networks`, by the names of their sources.
PREACT = "Rice2020Overfitting, CIFAR-10 l2 and CIFAR-100"
RAW = "fast_adversarial PreActResNet18"
WONG = "Wong2020Fast, Andriushchenko2020Understanding"
FOURTH = "pytorch-cifar PreActResNet18"
R18, R34 = "pytorch-cifar ResNet18, Addepalli2021Towards_RN18", "pytorch-cifar ResNet34"
R50 = "Engstrom2019Robustness, Augustin2020Adversarial"
POOL18, POOL50 = "PyTorch_CIFAR10 resnet18", "PyTorch_CIFAR10 resnet50"
R20, B20 = "Idelbayev's ResNet-20", "pytorch-cifar-models resnet20"
W28, W34 = "Carmon2019Unlabeled, Hendrycks2019Using", "Zhang2019Theoretically, Rice2020Overfitting"
DM, DM18 = "Gowal2020Uncovering", "Rade2021Helper"
JEM, JEMPP = "JEM", "JEM++"
TORCHVISION = (("shortcut", "downsample"), ("linear", "fc"))


def sub_block(w: lay.Weights) -> lay.Weights:
    """Return the stage that TRADES' network has and does not use."""
    return {f"sub_{k}": v + 1 for k, v in w.items() if k.startswith("block1.")}


def twice(w: lay.Weights) -> lay.Weights:
    """Return the first layer's second name."""
    return {"model_preact_hl1.1.weight": w["conv1.weight"]}


sub = lay.with_more(sub_block)
# The files of the first matrix that loaded, computed another function, or were not known.
FIRST = [
    Row("kuangliu-preactresnet18", FOURTH, kuangliu),
    Row("huyvnphan-resnet18", POOL18, bare),
    Row("rb-Ding2020MMA", "Ding2020MMA", bare),
    Row("fastat-preactresnet18", FOURTH, bare),
    Row("torchvision-resnet18-stem1", POOL18, bare),
    Row("dat-wrn34-10-plain", W34, data_parallel),
    Row("dat-wrn34-10-state", W34, lay.dat_state),
    Row("innout-wrn34-10", W34, bare),
    Row("weat-resnet18", R18, bare),
    Row("madry-resnet18", R18, lay.madry, asked=False),
    Row("madry-resnet18-legacy", R18, lay.madry, writer="legacy", asked=False),
    Row("rice-prn18-best", PREACT, rice_best),
    Row("rice-prn18-epoch", PREACT, data_parallel),
    Row("rice-prn18-cifar100", PREACT, data_parallel),
    Row("rice-wrn34-10", W34, rice_best),
    Row("fastadv-prn18", RAW, bare),
    Row("trades-wrn34-10", W34, sub),
    Row("trades-resnet18", R18, bare),
    Row("mart-resnet18", R18, bare),
    Row("mart-wrn34-10", W34, sub),
    Row("awp-at-prn18", PREACT, rice_best),
    Row("awp-trades-wrn34", W34, data_parallel),
    Row("imrahulr-resnet18", R18, placed("module.0.", "model_state_dict")),
    Row("imrahulr-wrn-28-10", W28, placed("module.1.", "model_state_dict")),
    Row("dmat-prn18-wa", PREACT, lay.dmat),
    Row("fastat-resnet18", R18, bare),
    Row("fastat-wrn34-10", W34, bare),
    Row("kuangliu-resnet18", R18, kuangliu),
    Row("akamaster-resnet20", R20, rice_best),
    Row("akamaster-resnet56", R20, placed("module.", "state_dict", best_prec1=93.4)),
    Row("torchvision-resnet18-stem2", R18, renamed(*TORCHVISION)),
    Row("timm-resnet18-cifar", R18, renamed(*TORCHVISION)),
    Row("timm-resnet18-cifar-safetensors", R18, renamed(*TORCHVISION), writer="safetensors"),
    Row("legacy-pickle", R18, kuangliu, writer="legacy"),
    Row("half-weights", R18, lay.as_type(torch.half)),
    Row("torch-compile", R18, lay.compiled),
    Row("lightning", R18, lay.lightning),
    Row("rb-Carmon2019Unlabeled", W28, lay.with_more(sub_block, then=rice_best)),
    Row("rb-Hendrycks2019Using", W28, data_parallel),
    Row("rb-Rice2020Overfitting", W34, data_parallel),
    Row("rb-Wong2020Fast", WONG, bare),
    Row("rb-Andriushchenko2020", WONG, lay.with_more(twice, then=lay.last_best)),
    Row("rb-Chen2020Efficient", W34, lay.with_more(sub_block, then=placed("model."))),
    Row("rb-Rony2019Decoupling", W28, bare),
    Row("rb-Kireev2021", PREACT, lay.last_best),
    Row("rb-Rice2020Overfitting-c100", PREACT, bare),
    Row("rb-Addepalli2021-PARN18-c100", PREACT, bare),
    Row("rb-Sehwag2021Proxy_R18", R18, data_parallel),
    Row("rb-Hendrycks2020AugMix_WRN", W28, rice_best),
    Row(
        "rb-Modas2021PRIMEResNet18",
        R18,
        lay.with_more(lambda w: lay.numbers("mu", "sigma")),
        asked=False,
    ),
    Row("rb-Wu2020Adversarial-c100", W34, bare),
    Row("jem-wrn28-10-nonorm", JEM, lay.jem_state),
    Row("jempp-wrn28-10-batch", JEMPP, lay.jem_state),
    Row("jempp-wrn28-10-batch-yopo", JEMPP, lay.with_more(lay.yopo, then=lay.jem_state)),
    Row("sadajem-wrn28-10", JEM, lay.with_more(dict, then=placed("module.", "model_state_dict"))),
    Row("ebjdat-jem", JEM, lay.jem_state),
    Row("ebjdat-sada", JEMPP, placed("module.", "model_state_dict")),
    Row("dat-wrn34-10-ema", W34, lay.doubled),
    Row("dat-wrn34-10-state-ema", W34, lay.ema_alone, {"entry": "ema_state_dict"}),
    Row("innout-resnet50", R50, bare),
    Row("madry-resnet50", R50, lay.madry, asked=False),
    Row("madry-resnet50-legacy", R50, lay.madry, writer="legacy", asked=False),
    Row("imrahulr-wrn-28-10-swish", DM, placed("module.0.", "model_state_dict")),
    Row("imrahulr-resnet50", R50, placed("module.0.", "model_state_dict")),
    Row("dmat-wrn28-10-swish", DM, lay.dmat),
    Row("mair-wrn28-10", W28, lay.mair),
    Row("mair-wrn28-10-not-asked", W28, lay.mair, verdict="records a normalisation", asked=False),
    Row("mair-prn18", FOURTH, lay.mair),
    Row("mair-r18-normalized", R18, partial(lay.mair, prefix="model.1.", normalised=True)),
    Row(
        "mair-r18-normalized-not-asked",
        R18,
        partial(lay.mair, prefix="model.1.", normalised=True),
        asked=False,
    ),
    Row("kuangliu-resnet34", R34, kuangliu),
    Row("kuangliu-resnet50", R50, kuangliu),
    Row("huyvnphan-resnet34", POOL18, bare),
    Row("huyvnphan-resnet50", POOL50, bare),
    Row("chenyaofo-cifar10_resnet20", B20, bare),
    Row("akamaster-resnet20-option-b", B20, renamed(("downsample", "shortcut"), ("fc", "linear"))),
    Row("timm-train-ckpt", R18, lay.arguments),
    Row("namespace-args", R18, lay.arguments, writer="legacy"),
    Row("numpy-scalar", R18, lay.arguments),
    Row("torch-swa", R18, lay.averaged),
    Row("rb-Engstrom2019Robustness", R50, bare),
    Row("rb-DMWRN-28-10", DM, bare),
    Row("rb-DMPreActResNet", DM18, bare),
]
# Networks that are none of ours, by `FILE.py:FUNCTION`.
OWN_CODE = [
    Row(f"own-{network.replace('_', '-')}-{kind}", network, layout)
    for network in (
        *("fast_adversarial_mnist", "trades_small_cnn", "advertorch_lenet5", "kuangliu_lenet"),
        *("kuangliu_vgg", "kuangliu_mobilenetv2", "kuangliu_resnext29", "kuangliu_regnetx"),
        *("kuangliu_senet18", "kuangliu_simpledla", "kuangliu_densenet121", "weiai_resnet18"),
        *("weiai_preactresnet18", "weiai_wideresnet", "weiai_vgg16_bn", "huyvnphan_vgg11_bn"),
        *("huyvnphan_mobilenet_v2", "huyvnphan_densenet121", "chenyaofo_vgg16_bn"),
        *("chenyaofo_repvgg_a0", "chenyaofo_shufflenet", "torchvision_resnet18_stem0"),
        *("timm_resnet18_224stem", "rb_pang2020", "rb_chen2020", "rb_huang2021", "rb_dai2021"),
        *("rb_diffenderfer_lrr", "rb_diffenderfer_binary", "rb_xcit", "jem_energy"),
        *("normalised_mu_sigma", "normalised_mean_std", "normalised_means_sds", "weight_norm"),
        *("temperature", "timm_vit", "timm_convnext", "rb_ding2020"),
    )
    for kind, layout in (("bare", bare), ("net", kuangliu))
]
ROWS = [*FIRST, *OWN_CODE]
