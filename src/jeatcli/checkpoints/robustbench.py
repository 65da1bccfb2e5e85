"""RobustBench's entries for CIFAR-10 and -100 (Croce et al. 2021): networks and accuracies.

Facts of its dictionaries and of `model_info` at commit 78fcc9e (2025-03-31). An entry whose
network is none of ours has the name of its class instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ..core.threat import Threat
from ..data.facts import DATASETS
from ..errors import UsageProblem, unknown
from ..settings import parse_number

Channels = tuple[float, ...]
PREFIX = "robustbench:"
_EPS = {"linf": 8 / 255, "l2": 0.5}
_NORMALISATIONS: dict[str, tuple[Channels, Channels]] = {
    "plain": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "rice": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "engstrom": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "exact": (
        (0.4913997551666284, 0.48215855929893703, 0.4465309133731618),
        (0.24703225141799082, 0.24348516474564, 0.26158783926049628),
    ),
    "rony": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
    "dm100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "chen100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "exact100": (
        (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
        (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
    ),
}


@dataclass(frozen=True)
class Published:
    """An entry of RobustBench.

    Args:
        name: Its ID.
        dataset, threat: Its dictionary.
        arch: The network, as `--arch` names it; None for one that is none of ours.
        kind: The normalisation's name, or the class of a network that is none of ours.
        clean, robust: The accuracies, as shares; the latter is the lowest known one under
            AutoAttack or an external evaluation.
    """

    name: str
    dataset: str
    threat: Threat
    arch: str | None
    kind: str
    clean: float
    robust: float

    @property
    def activation(self) -> str:
        """The nonlinearity: Swish and SiLU are the same function."""
        return "silu" if (self.arch or "").startswith("dm-") else "relu"

    @property
    def normalisation(self) -> tuple[Channels, Channels]:
        """Mean and standard deviation of pixels in [0, 1]."""
        return _NORMALISATIONS[self.kind]


@cache
def entries() -> tuple[Published, ...]:
    """Return all entries, in the order of the dictionaries."""
    return tuple(_parsed())


def _parsed() -> Iterator[Published]:
    dataset = norm = ""
    for line in _TABLE.strip().splitlines():
        words = line.split()
        if words[0] == "#":
            _, dataset, norm = words
            continue
        name, arch, kind, clean, robust, *eps = words
        threat = Threat(norm, parse_number(eps[0]) if eps else _EPS[norm])
        accuracies = float(clean) / 100, float(robust) / 100
        yield Published(name, dataset, threat, None if arch == "-" else arch, kind, *accuracies)


def find(text: str, dataset: str | None, classes: int | None) -> Published:
    """Return the entry that `robustbench:ID` or `robustbench:l2/ID` names.

    Args:
        text: What `--arch` says.
        dataset: The data set, if the user says it.
        classes: How many the weights tell apart, if they tell that.

    Raises:
        UsageProblem: If there is none, or its network is none of ours.
    """
    norm, _, name = text.removeprefix(PREFIX).rpartition("/")
    named = [each for each in entries() if each.name == name and norm in ("", each.threat.norm)]
    if not named:
        raise unknown("entry of RobustBench", name, {each.name for each in entries()})
    fitting = [
        each
        for each in named
        if (dataset in (None, each.dataset))
        and (classes in (None, len(DATASETS[each.dataset].classes)))
    ]
    if not fitting:
        places = " and ".join(dict.fromkeys(f"{each.dataset}" for each in named))
        raise UsageProblem(
            f"`{name}` of RobustBench is of {places}, and the file is of something else",
            "check the file and `--dataset`",
        )
    entry = fitting[0]
    if entry.arch is None:
        raise UsageProblem(
            f"the network of `{name}` ({entry.kind}) is none of ours",
            "name its code by `--arch FILE.py:FUNCTION`",
        )
    return entry


_TABLE = """
# cifar10 linf
Andriushchenko2020Understanding resnet-18-wong plain 79.84 43.93
Carmon2019Unlabeled wrn-28-10 plain 89.69 59.53
Sehwag2020Hydra wrn-28-10 plain 88.98 57.14
Wang2020Improving wrn-28-10 plain 87.50 56.29
Hendrycks2019Using wrn-28-10 half 87.11 54.92
Rice2020Overfitting wrn-34-20 rice 85.34 53.42
Zhang2019Theoretically wrn-34-10 plain 84.92 53.08 0.031
Engstrom2019Robustness resnet-50-v1 engstrom 87.03 49.25
Chen2020Adversarial - Chen2020AdversarialNet 86.04 51.56
Huang2020Self wrn-34-10 plain 83.48 53.34 0.031
Pang2020Boosting - BoostingWideResNet 85.14 53.74
Wong2020Fast resnet-18-wong rice 83.34 43.21
Ding2020MMA mma-wrn-28-4 plain 84.36 41.44
Zhang2019You wrn-34-10 plain 87.20 44.83
Zhang2020Attacks wrn-34-10 plain 84.52 53.51
Wu2020Adversarial_extra wrn-28-10 plain 88.25 60.04
Wu2020Adversarial wrn-34-10 plain 85.36 56.17
Gowal2020Uncovering_70_16 dm-wrn-70-16 rice 85.29 57.14
Gowal2020Uncovering_70_16_extra dm-wrn-70-16 rice 91.10 65.87
Gowal2020Uncovering_34_20 dm-wrn-34-20 rice 85.64 56.82
Gowal2020Uncovering_28_10_extra dm-wrn-28-10 rice 89.48 62.76
Sehwag2021Proxy wrn-34-10 plain 86.68 60.27
Sehwag2021Proxy_R18 resnet-18-v1 plain 84.59 55.54
Sehwag2021Proxy_ResNest152 - ResNest152 87.30 62.79
Sitawarin2020Improving wrn-34-10 plain 86.84 50.72
Chen2020Efficient wrn-34-10 rice 85.32 51.12
Cui2020Learnable_34_20 wrn-34-20 plain 88.70 53.57 0.031
Cui2020Learnable_34_10 wrn-34-10 plain 88.22 52.86 0.031
Zhang2020Geometry wrn-28-10 plain 89.36 59.64
Rebuffi2021Fixing_28_10_cutmix_ddpm dm-wrn-28-10 rice 87.33 60.73
Rebuffi2021Fixing_106_16_cutmix_ddpm dm-wrn-106-16 rice 88.50 64.58
Rebuffi2021Fixing_70_16_cutmix_ddpm dm-wrn-70-16 rice 88.54 64.20
Rebuffi2021Fixing_70_16_cutmix_extra dm-wrn-70-16 rice 92.23 66.56
Sridhar2021Robust wrn-28-10 plain 89.46 59.66
Sridhar2021Robust_34_15 wrn-34-15 plain 86.53 60.41
Rebuffi2021Fixing_R18_ddpm dm-resnet-18 rice 83.53 56.66
Rade2021Helper_R18_extra dm-resnet-18 rice 89.02 57.67
Rade2021Helper_R18_ddpm dm-resnet-18 rice 86.86 57.09
Rade2021Helper_extra dm-wrn-34-10 rice 91.47 62.83
Rade2021Helper_ddpm dm-wrn-28-10 rice 88.16 60.97
Huang2021Exploring - RobustWideResNet 90.56 61.56
Huang2021Exploring_ema - RobustWideResNet 91.23 62.54
Addepalli2021Towards_RN18 resnet-18-v1 plain 80.24 51.06
Addepalli2021Towards_WRN34 wrn-34-10 plain 85.32 58.04
Gowal2021Improving_70_16_ddpm_100m dm-wrn-70-16 rice 88.74 66.10
Dai2021Parameterizing - PSSiLU 87.02 61.55
Gowal2021Improving_28_10_ddpm_100m dm-wrn-28-10 rice 87.50 63.38
Gowal2021Improving_R18_ddpm_100m dm-resnet-18 rice 87.35 58.50
Chen2021LTD_WRN34_10 wrn-34-10 plain 85.21 56.94
Chen2021LTD_WRN34_20 wrn-34-20 plain 86.03 57.71
Standard wrn-28-10 plain 94.78 0.0
Kang2021Stable - SODEF 93.73 64.20
Jia2022LAS-AT_34_10 wrn-34-10 plain 84.98 56.26
Jia2022LAS-AT_70_16 wrn-70-16 plain 85.66 57.61
Pang2022Robustness_WRN28_10 dm-wrn-28-10 rice 88.61 61.04
Pang2022Robustness_WRN70_16 dm-wrn-70-16 rice 89.01 63.35
Addepalli2022Efficient_RN18 resnet-18-v1 plain 85.71 52.48
Addepalli2022Efficient_WRN_34_10 wrn-34-10 plain 88.71 57.81
Debenedetti2022Light_XCiT-S12 - XCiT 90.06 56.14
Debenedetti2022Light_XCiT-M12 - XCiT 91.30 57.27
Debenedetti2022Light_XCiT-L12 - XCiT 91.73 57.58
Huang2022Revisiting_WRN-A4 - WRN-A4 91.58 65.79
Wang2023Better_WRN-28-10 dm-wrn-28-10 rice 92.44 67.31
Wang2023Better_WRN-70-16 dm-wrn-70-16 rice 93.25 70.69
Xu2023Exploring_WRN-28-10 dm-wrn-28-10 rice 93.69 63.89
Cui2023Decoupled_WRN-28-10 dm-wrn-28-10 rice 92.16 67.73
Cui2023Decoupled_WRN-34-10 wrn-34-10 plain 85.31 57.09
Bai2023Improving_edm - composite 95.23 68.06
Peng2023Robust - RaWideResNet 93.27 71.07
Bai2024MixedNUTS - MixedNUTS 95.19 69.71
Chen2024Data_WRN_34_10 wrn-34-10 plain 86.54 57.30
Chen2024Data_WRN_34_20 wrn-34-20 plain 86.10 58.09
Amini2024MeanSparse_Ra_WRN_70_16 - MeanSparse 93.24 68.94
Amini2024MeanSparse_S-WRN-94-16 - MeanSparse 93.60 73.10
Bartoldson2024Adversarial_WRN-94-16 dm-wrn-94-16 rice 93.68 73.71
Bartoldson2024Adversarial_WRN-82-8 dm-wrn-82-8 rice 93.11 71.59
# cifar10 l2
Augustin2020Adversarial resnet-50-v1 exact 91.08 72.91
Engstrom2019Robustness resnet-50-v1 engstrom 90.83 69.24
Rice2020Overfitting resnet-18 rice 88.67 67.68
Rony2019Decoupling wrn-28-10 rony 89.05 66.44
Standard wrn-28-10 plain 94.78 0.0
Ding2020MMA mma-wrn-28-4 plain 88.02 66.09
Wu2020Adversarial wrn-34-10 plain 88.51 73.66
Gowal2020Uncovering dm-wrn-70-16 rice 90.90 74.50
Gowal2020Uncovering_extra dm-wrn-70-16 rice 94.74 80.53
Sehwag2021Proxy wrn-34-10 plain 90.93 77.24
Sehwag2021Proxy_R18 resnet-18-v1 plain 89.76 74.41
Rebuffi2021Fixing_70_16_cutmix_ddpm dm-wrn-70-16 rice 92.41 80.42
Rebuffi2021Fixing_28_10_cutmix_ddpm dm-wrn-28-10 rice 91.79 78.80
Rebuffi2021Fixing_70_16_cutmix_extra dm-wrn-70-16 rice 95.74 82.32
Augustin2020Adversarial_34_10 wrn-34-10 exact 92.23 76.25
Augustin2020Adversarial_34_10_extra wrn-34-10 exact 93.96 78.79
Rebuffi2021Fixing_R18_cutmix_ddpm dm-resnet-18 rice 90.33 75.86
Rade2021Helper_R18_ddpm dm-resnet-18 rice 90.57 76.15
Wang2023Better_WRN-28-10 dm-wrn-28-10 rice 95.16 83.68
Wang2023Better_WRN-70-16 dm-wrn-70-16 rice 95.54 84.97
Amini2024MeanSparse_S-WRN-70-16 - MeanSparse 95.51 84.33
# cifar100 linf
Gowal2020Uncovering dm-wrn-70-16 dm100 60.86 30.03
Gowal2020Uncovering_extra dm-wrn-70-16 dm100 69.15 36.88
Cui2020Learnable_34_20_LBGAT6 wrn-34-20 plain 62.55 30.20
Cui2020Learnable_34_10_LBGAT0 wrn-34-10 plain 70.25 27.16
Cui2020Learnable_34_10_LBGAT6 wrn-34-10 plain 60.64 29.33
Chen2020Efficient wrn-34-10 chen100 62.15 26.94
Wu2020Adversarial wrn-34-10 exact100 60.38 28.86
Sehwag2021Proxy wrn-34-10 plain 65.93 31.15
Sitawarin2020Improving wrn-34-10 plain 62.82 24.57
Hendrycks2019Using wrn-28-10 half 59.23 28.42
Rice2020Overfitting resnet-18 exact100 53.83 18.95
Rebuffi2021Fixing_70_16_cutmix_ddpm dm-wrn-70-16 dm100 63.56 34.64
Rebuffi2021Fixing_28_10_cutmix_ddpm dm-wrn-28-10 dm100 62.41 32.06
Rebuffi2021Fixing_R18_ddpm dm-resnet-18 dm100 56.87 28.50
Rade2021Helper_R18_ddpm dm-resnet-18 dm100 61.50 28.88
Addepalli2021Towards_PARN18 resnet-18 plain 62.02 27.14
Addepalli2021Towards_WRN34 wrn-34-10 plain 65.73 30.35
Chen2021LTD_WRN34_10 wrn-34-10 plain 64.07 30.59
Pang2022Robustness_WRN28_10 dm-wrn-28-10 dm100 63.66 31.08
Pang2022Robustness_WRN70_16 dm-wrn-70-16 dm100 65.56 33.05
Jia2022LAS-AT_34_10 wrn-34-10 plain 64.89 30.77
Jia2022LAS-AT_34_20 wrn-34-20 plain 67.31 31.91
Addepalli2022Efficient_RN18 resnet-18-v1 plain 65.45 27.67
Addepalli2022Efficient_WRN_34_10 wrn-34-10 plain 68.75 31.85
Debenedetti2022Light_XCiT-S12 - XCiT 67.34 32.19
Debenedetti2022Light_XCiT-M12 - XCiT 69.21 34.21
Debenedetti2022Light_XCiT-L12 - XCiT 70.76 35.08
Cui2020Learnable_34_10_LBGAT9_eps_8_255 wrn-34-10 plain 62.99 31.20
Wang2023Better_WRN-28-10 dm-wrn-28-10 dm100 72.58 38.77
Wang2023Better_WRN-70-16 dm-wrn-70-16 dm100 75.22 42.66
Bai2023Improving_edm - composite 85.21 38.72
Bai2023Improving_trades - composite 80.18 35.15
Cui2023Decoupled_WRN-28-10 dm-wrn-28-10 dm100 73.85 39.18
Cui2023Decoupled_WRN-34-10 wrn-34-10 plain 65.76 31.91
Cui2023Decoupled_WRN-34-10_autoaug wrn-34-10 plain 65.93 32.52
Bai2024MixedNUTS - MixedNUTS 83.08 41.80
Chen2024Data_WRN_34_10 wrn-34-10 plain 64.32 31.13
Amini2024MeanSparse_S-WRN-70-16 - MeanSparse 75.13 42.25
"""
