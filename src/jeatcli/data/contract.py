"""What the function of a data set of the user's own must take and return."""

from ..catalogue import check_call
from ..errors import UsageProblem
from .checks import indices, numbers, pixels
from .facts import DatasetFacts, Request
from .folder import Parts

_RETURN = "return images, uint8 (n, C, H, W), labels (n,), and the names of the classes"


def called(name: str, facts: DatasetFacts, request: Request) -> Parts:
    """Return the images, labels and class names of a row; refuse what is none, or not as it says.

    Raises:
        UsageProblem: Naming what does not fit.
    """
    read = facts.load()
    check_call(read, f"the function of the data set `{name}`", request)
    returned: object = read(request)
    if not isinstance(returned, tuple | list) or len(returned) != 3:
        kind = type(returned).__name__
        kind += f" of length {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise UsageProblem(f"the function of the data set `{name}` returned a {kind}", _RETURN)
    images, labels, classes = returned
    if not isinstance(classes, tuple | list) or tuple(classes) != facts.classes:
        raise UsageProblem(
            f"the function of the data set `{name}` returned other classes than its row has",
            f"the row has {', '.join(facts.classes[:10])}",
        )
    where = f"the images of `{name}`"
    x = pixels(numbers(images, where), where)
    if (shape := tuple(x.shape[1:])) != facts.shape:
        ours, theirs = ("x".join(map(str, each)) for each in (shape, facts.shape))
        raise UsageProblem(f"{where} are {ours}, and its row says {theirs}", "make them alike")
    where = f"the labels of `{name}`"
    return x, indices(numbers(labels, where), len(x), len(classes), where), facts.classes
