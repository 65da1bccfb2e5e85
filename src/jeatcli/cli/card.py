"""README.md of a run's directory: a model card with what the commands measured."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..checkpoints.header import read_header
from ..checkpoints.listing import accuracy
from ..checkpoints.results import read_results
from ..checkpoints.runs import MODEL_FILE
from ..core.threat import fraction
from ..methods import METHODS
from ..runtime.files import write_atomic
from . import attack_report, landscape_report, output, score_report
from .output import Section

CARD = "README.md"
# What stands below this line is the user's, and is kept.
_YOURS = "<!-- Above this line `jeat` writes; below it the file is yours. -->"
# What the hub calls the data sets.
_ON_THE_HUB = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "svhn": "ufldl-stanford/svhn",
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
}
_PICTURES = (".png", ".svg", ".gif", ".webp")
Result = Mapping[str, Any]


def write_card(folder: Path) -> None:
    """Write the card of a run anew; a README.md that is not ours stays as it is."""
    path, rest, before = folder / CARD, "", ""
    if path.is_file():
        found = path.read_text(encoding="utf-8", errors="replace")
        if _YOURS not in found:
            return
        rest = found.partition(_YOURS)[2].rstrip()
        before = found.removeprefix("---\n").partition("\n---\n")[0]
    header, results = read_header(folder / MODEL_FILE), read_results(folder)
    parts = [_front_matter(folder, header, before), *_body(folder, header, results), _YOURS]
    text = (output.clean("\n\n".join(parts)) + rest).rstrip("\n") + "\n"
    encoded = text.encode("utf-8", "backslashreplace")
    write_atomic(path, lambda beside: beside.write_bytes(encoded))


def _front_matter(folder: Path, header: Mapping[str, Any], before: str) -> str:
    """Return what the hub reads: YAML, of which JSON is a part, with the user's own keys."""
    dataset = str(header["dataset"])
    about: dict[str, Any] = {
        "library_name": "jeat-cli",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "energy-based-model", str(header["method"])],
    }
    if dataset in _ON_THE_HUB:
        about["datasets"] = [_ON_THE_HUB[dataset]]
    measured = accuracy(folder, header)
    if measured:
        attack = measured["attack"]
        ball = f"{attack['norm']} {fraction(attack['eps'])}"
        under = f"robust accuracy, {' + '.join(attack['attacks'])}, {ball}, n = {attack['n']}"
        names = {"clean": "clean accuracy", "robust": under}
        metrics = [
            {"type": "accuracy", "name": name, "value": round(measured[key], 4)}
            for key, name in names.items()
        ]
        data = {"name": dataset, "type": _ON_THE_HUB.get(dataset, dataset), "split": "test"}
        task = {"task": {"type": "image-classification"}, "dataset": data, "metrics": metrics}
        about["model-index"] = [{"name": folder.name, "results": [task]}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in about.items()]
    keys = (*about, "datasets", "model-index")
    # A key and the lines below it that belong to it.
    own = re.findall(r"^([\w-]+):(.*(?:\n[ -].*)*)", before, re.M)
    lines += [f"{key}:{value}" for key, value in own if key not in keys]
    return "\n".join(["---", *lines, "---"])


def _body(
    folder: Path, header: Mapping[str, Any], results: Mapping[str, Sequence[Result]]
) -> Iterator[str]:
    shape, classes = "x".join(map(str, header["shape"])), len(header["classes"])
    method = METHODS.get(str(header["method"]))
    yield f"# {escape(folder.name)}"
    yield (
        f"A classifier of {escape(str(header['dataset']))} ({shape}, {classes} classes) whose "
        f"logits are energies, trained with jeat-cli by "
        f"{escape(_within(method.summary) if method else str(header['method']))}."
    )
    if not header.get("finished"):
        done = f"{header.get('epoch', 0)} of {header.get('epochs', '?')} epochs"
        yield f"**Not finished**: trained for {done}."
    yield from _pictures(["curves.png"], folder, "Loss, accuracy and energies by epoch")
    for verb, title, write in _SECTIONS:
        written = list(_of_verb(results.get(verb, []), folder, header.get("epoch"), write))
        if written:
            yield f"## {title}"
            yield from written
    yield "## How it was trained"
    yield table(Section(_training(header), header=False))
    yield from (code(each.get("command")) for each in results.get("train", [])[-1:])
    yield "## How to use it"
    yield (
        "```sh\npip install 'jeat-cli[hub]'\njeat attack hf-hub:OWNER/NAME\n"
        "jeat sample hf-hub:OWNER/NAME\n```"
    )
    yield (
        "```python\nfrom jeatcli import load\n\n"
        'model = load("hf-hub:OWNER/NAME")  # model.classifier: images in [0, 1] to logits\n```'
    )


def _within(summary: str) -> str:
    """Write a summary as a part of a sentence; a name such as PreJEAT keeps its capitals."""
    return re.sub(r"\A[A-Z](?=[a-z]+\b)", lambda first: first[0].lower(), summary)


def _training(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    keys = ("method", "dataset", "arch", "norm_layer", "activation", "epochs", "seed", "version")
    rows = [(key.replace("_", " "), str(header[key])) for key in keys if key in header]
    options = header.get("options")
    return [*rows, ("options", output.inline(options))] if options else rows


def _of_verb(results: Sequence[Result], folder: Path, epoch: object, write: Any) -> Iterator[str]:
    """Write the results of each command, with it and its date; what cannot be read is left out.

    Commands with the same results, such as those that differ in the look of a picture, share them.
    """
    shared: dict[tuple[str, ...], list[str]] = {}
    for command, group in groupby(results, key=lambda result: result.get("command")):
        found = list(group)
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
            tables = tuple(table(section) for section in write(found))
            about = f"{code(command)}, {str(found[0].get('date'))[:10]}"
            which, at = found[0].get("model"), found[0].get("epoch")
            about += "" if which == MODEL_FILE else f", weights of `{which}`"
            about += "" if at == epoch or which != MODEL_FILE else f", when at epoch {at}"
            names = [str(name) for result in found for name in result.get("outputs", {}).values()]
            pictures = _pictures(dict.fromkeys(names), folder, str(command))
            shared.setdefault(tables, []).extend([about, *pictures])
    for tables, commands in shared.items():
        yield from (*tables, *commands)


def _attack(results: list[Result]) -> list[Section]:
    found: Any = [_Object(result) for result in results]
    names = [str(result["run"]) for result in results]
    unions = [results[0]["union"]] if "union" in results[0] else []
    return [attack_report.section(found, names, unions)]


def _score(results: list[Result]) -> list[Section]:
    result: Any = _Object(results[-1])
    if "accuracy" in results[-1]:
        return score_report.classifier_sections(result)
    features = {k: v for k, v in result.protocol["features"].items() if k not in ("path", "sha256")}
    result.protocol = {**result.protocol, "features": features}
    return score_report.score_sections(result)


def _landscape(results: list[Result]) -> list[Section]:
    return landscape_report.sections({**results[0], "results": results})


def _sample(results: list[Result]) -> list[Section]:
    settings = results[-1]["settings"]
    keys = [key for key in settings if key not in ("run", "weights", "jeat")]
    return [Section([(k.replace("_", " "), output.inline(settings[k])) for k in keys], (), False)]


_SECTIONS: Sequence[tuple[str, str, Any]] = (
    ("attack", "Accuracy", _attack),
    ("sample", "Samples", _sample),
    ("landscape", "Energy", _landscape),
    ("score", "Scores", _score),
)


# What is an object of its own within a result.
_NESTED = ("neighbours", "calibration", "temperature", "corruptions")


class _Object(SimpleNamespace):
    """A result of `results.json` as the object that it was; what is missing is None."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(
            **{
                key: _Object(value) if key in _NESTED and isinstance(value, Mapping) else value
                for key, value in values.items()
            }
        )

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _pictures(names: Sequence[str] | Mapping[str, Any], folder: Path, about: str) -> Iterator[str]:
    """Show the pictures that lie in the run."""
    for name in names:
        if name.lower().endswith(_PICTURES) and (folder / name).is_file():
            path = name.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
            yield f"![{escape(about)}]({path})"


def table(section: Section) -> str:
    """Write a section in Markdown."""
    rows = [[escape(text) for text in row] for row in output.cell_texts(section.rows)]
    right = output.numeric_columns(section.rows, section.header)
    head = rows.pop(0) if section.header else [""] * len(rows[0])
    lines = [head, ["---:" if number else "---" for number in right], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([text, *map(escape, section.notes)])


def code(text: object) -> str:
    """Write a text as code."""
    fence = "``" if "`" in str(text) else "`"
    return f"{fence}{' '.join(str(text).split())}{fence}"


def escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", text.replace("\n", " "))
