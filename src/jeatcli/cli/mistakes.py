"""What was meant by an option or a RUN that does not exist. Imported only once there is one."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import click

from ..errors import NoSuchRun, UsageProblem
from ..methods import METHODS
from ..settings import declared
from .options import Option
from .types import Look, Name

_RESUME = ("resume", "continue")
# Options as other tools call them, and what they are called here.
_ELSEWHERE = {
    "alpha": "step-size",
    "bs": "batch-size",
    "cuda": "device",
    "epsilon": "eps",
    "gpu": "device",
    "iterations": "steps",
    "iters": "steps",
    "learning-rate": "lr",
    "model": "arch",
    "n": "num",
    "name": "out",
    "num-images": "num",
    "num-samples": "num",
    "num-steps": "steps",
    "output": "out",
    "samples": "num",
    "wd": "weight-decay",
}
_WORD = r"[a-z][a-z_]+"
# As alike as a letter too many, too few or exchanged leaves two names, and as a guess needs.
_TYPO, _GUESS = 0.85, 0.7


def advise(problem: click.NoSuchOption) -> str:
    """Return the error for an option that does not exist, with what to write instead."""
    ctx, name = problem.ctx, problem.option_name.lstrip("-").replace("_", "-")
    meant = _meant(ctx, problem.option_name, name) if ctx else None
    return f"No such option '{problem.option_name}'" + (f": {meant}" if meant else "")


def _meant(ctx: click.Context, typed: str, name: str) -> str | None:
    here = {flag[2:] for flag in _flags(ctx.command) if flag.startswith("--")}
    if name in _RESUME and ctx.info_name == "train":
        return "a run resumes by the same command"
    if name == "model" and ctx.info_name != "train":
        return "the model is the argument RUN"
    if (known := _ELSEWHERE.get(name)) in here:
        return f"here it is called `--{known}`"
    if near := get_close_matches(name, here, 1, _TYPO):
        return f"did you mean `--{near[0]}`?"
    if ctx.info_name == "train" and (option := name.replace("-", "_")) in _of_methods():
        return f"an option of a method is written `-O {option}=VALUE`"
    if near := sorted(flag for flag in here if name in flag.split("-")):
        return f"did you mean {_listed(near, '--', ' or ')}?"
    if verbs := _verbs_with(ctx.find_root(), typed):
        if ctx.parent is None:
            after = f"`jeat {verbs[0]}`" if len(verbs) == 1 else "the command"
            return f"write it after {after}"
        return f"it is an option of {_listed(verbs, 'jeat ', ' and ')}"
    near = get_close_matches(name, here, 1, _GUESS)
    return f"did you mean `--{near[0]}`?" if near else None


def _verbs_with(root: click.Context, flag: str) -> list[str]:
    """Return the commands of the group that have an option."""
    group = root.command
    assert isinstance(group, click.Group)
    return [
        verb for verb in group.list_commands(root) if flag in _flags(group.get_command(root, verb))
    ]


def _flags(command: click.Command | None) -> set[str]:
    params = command.params if command else []
    return {flag for each in params for flag in (*each.opts, *each.secondary_opts)}


def _of_methods() -> set[str]:
    """Return the options of all methods, which takes torch."""
    return {key.rstrip("_") for name in METHODS for key in declared(METHODS.load(name))}


def _listed(names: list[str], before: str, last: str) -> str:
    quoted = [f"`{before}{name}`" for name in names]
    return last.join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def variable(ending: str, shared: Sequence[str], commands: Iterable[str]) -> str | None:
    """Return the variable that was probably meant, of all commands or of one; after `JEAT_`."""
    if near := get_close_matches(ending, shared, 1, 0.8):
        return near[0]
    verb, _, rest = ending.partition("_")
    verbs = get_close_matches(verb.lower(), commands, 1, 0.8)
    return f"{verbs[0].upper()}_{rest}" if verbs and rest else None


def from_environment(ctx: click.Context, problem: UsageProblem) -> UsageProblem:
    """Return the error of a command with the variables that set what it names, which nobody typed.

    It may name an option as the settings do (`eps`), or the key of its value (`-O lambda=2`).
    """
    named = set(re.findall(_WORD, problem.message.replace("-", "_")))
    variables = []
    for param in ctx.command.params:
        variable = param.variable(ctx) if isinstance(param, Option) else None
        value = os.environ.get(variable, "") if variable else ""
        own = {_flag(param).strip("-").replace("-", "_"), *re.findall(rf"({_WORD})=", value)}
        if variable and named & own:
            variables.append(f"`{variable}`")
    if not variables:
        return problem
    origin = f"(in the environment: {', '.join(variables)})"
    return UsageProblem(f"{problem.message} {origin}", problem.hint)


def explain(ctx: click.Context, problem: NoSuchRun, typed: Sequence[str]) -> NoSuchRun:
    """Return the error for a RUN that does not exist, with the option that it may belong to.

    `typed` are the command's arguments. A second value of an option is taken for a RUN, and so is
    an attack without its option.
    """
    hint = problem.hint or ""
    for text in _arguments(ctx):
        if f"{text}`" not in problem.message:
            continue
        if repeated := _repeated(ctx, text, typed):
            return NoSuchRun(problem.message, f"for several values, write `{repeated}`; {hint}")
        if hint.startswith("did you mean"):  # a run that is called nearly so
            continue
        for param in ctx.command.params:
            kind = param.type
            if isinstance(kind, Name) and not isinstance(kind, Look) and text in kind.known():
                return NoSuchRun(problem.message, f"did you mean `{_flag(param)} {text}`? {hint}")
    return problem


def _arguments(ctx: click.Context) -> Iterator[str]:
    for param in ctx.command.params:
        if isinstance(param, click.Argument):
            value = ctx.params.get(str(param.name)) or ()
            yield from map(str, value if isinstance(value, tuple | list) else [value])


def completed(ctx: click.Context, problem: click.UsageError, typed: Sequence[str]) -> str | None:
    """Return click's error with what it leaves out: how to write the option, or the arguments."""
    if isinstance(problem, click.BadOptionUsage) and "arguments" in problem.message:
        option = next(each for each in ctx.command.params if problem.option_name in each.opts)
        return f"{problem.message.removesuffix('.')}: `{problem.option_name} {option.metavar}`"
    found = re.search(r"unexpected extra arguments? \((.+)\)", problem.message)
    if found is None:
        return None
    if repeated := _repeated(ctx, found[1].split()[-1], typed):
        return f"{problem.message}; for several values, write `{repeated}`"
    if ctx.info_name == "train":
        return f"{problem.message}: settings are options, such as `--dataset digits --method at`"
    return f"{problem.message}: `{ctx.command_path}` takes one RUN"


def _repeated(ctx: click.Context, text: str, typed: Sequence[str]) -> str | None:
    """Return how the values of an option, of which `text` is a later one, should be written."""
    end = typed.index(text) if text in typed else 0
    begin = end
    while begin > 0 and not typed[begin - 1].startswith("-"):
        begin -= 1
    for param in ctx.command.params:
        one = isinstance(param, click.Option) and param.multiple and param.nargs == 1
        if one and 0 < begin < end and typed[begin - 1] in param.opts and _takes(param, text, ctx):
            return " ".join(f"{typed[begin - 1]} {value}" for value in typed[begin : end + 1])
    return None


def _takes(param: click.Parameter, text: str, ctx: click.Context) -> bool:
    try:
        param.type.convert(text, param, ctx)
    except (click.ClickException, UsageProblem):
        return False
    return True


def _flag(param: click.Parameter) -> str:
    return max(param.opts, key=len)
