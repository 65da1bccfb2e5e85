"""What `--arch` may name: a network of ours, one of a library, or the user's own code."""

import re

from ..core.models import ARCHITECTURES
from ..errors import UsageProblem

LIBRARIES = {
    "timm:NAME": "A timm network, without its weights (`pip install 'jeat-cli[timm]'`)",
    "torchvision:NAME": "A torchvision network, without its weights",
}
# All that `--arch` may name besides our own networks.
_WAYS = ("robustbench:ID", *LIBRARIES, "FILE.py:FUNCTION", "PACKAGE.MODULE:FUNCTION")


def is_library(arch: str) -> bool:
    """Tell whether a name is one of a library's networks, which a checkpoint may name, too."""
    return re.fullmatch(r"(timm|torchvision):\w[\w.]*", arch) is not None


def is_code(arch: str) -> bool:
    """Tell whether a name is that of a function of the user's own."""
    place, colon, function = arch.rpartition(":")
    library = place in ("timm", "torchvision", "robustbench")
    named = place.endswith(".py") or all(part.isidentifier() for part in place.split("."))
    return bool(colon) and not library and named and function.isidentifier()


def check_arch(arch: str) -> None:
    """Refuse what no run can have been trained with, code of the user's own included."""
    if is_code(arch):
        raise UsageProblem(
            f"a run cannot have a network of your own code, such as `{arch}`",
            "to train it, add it to the table of networks (docs/extending.md#a-network)",
        )
    if not is_library(arch):
        ARCHITECTURES.match(arch)


def check_network(arch: str) -> None:
    """Refuse what names no network of anybody's."""
    if is_code(arch) or re.fullmatch(r"robustbench:((linf|l2)/)?[\w-]+", arch):
        return
    if (":" in arch or arch.endswith(".py")) and not is_library(arch):
        raise UsageProblem(
            f"there is no network `{arch}`",
            f"name it as {', '.join(f'`{way}`' for way in _WAYS)}",
        )
    check_arch(arch)
