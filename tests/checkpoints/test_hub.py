"""`hf-hub:OWNER/NAME`: models of the hub, from a server of this test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.checkpoints import weights
from helpers.cli import jeat, parsed
from helpers.hub_server import Handler, Repository, hub_of, resolved
from helpers.runs import save_run
from safetensors.torch import save

pytest.importorskip("huggingface_hub")

FEW = ("-n", "2", "--steps", "1", "--json")
DESCRIBED = ("--arch", "wrn-10-1", "--dataset", "digits")
CONFIG = json.dumps({"architecture": "wide", "pretrained_cfg": {"mean": [0.1], "std": [0.3]}})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where samples may be written."""
    monkeypatch.chdir(tmp_path)


def ours() -> Repository:
    """Return the model of an untrained run, as `hf upload` puts it there."""
    return Repository({"model.safetensors": save_run("uploaded").read_bytes()})


def theirs(config: str = CONFIG) -> Repository:
    """Return somebody else's model of one file."""
    files = {"model.safetensors": save(weights(), {"format": "pt"})}
    return Repository(files | ({"config.json": config.encode()} if config else {}))


def sharded() -> Repository:
    """Return somebody else's model of two files."""
    found = weights()
    names = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    places = {key: names[number % 2] for number, key in enumerate(found)}
    parts = {
        name: save({key: found[key] for key in found if places[key] == name}, {"format": "pt"})
        for name in names
    }
    index = json.dumps({"metadata": {}, "weight_map": places}).encode()
    return Repository({"model.safetensors.index.json": index, **parts})


def test_a_model_is_downloaded_once_and_named_by_its_page(tmp_path: Path) -> None:
    model = ours()
    place = tmp_path / "jeat-cache" / "hub" / "someone" / model.commit
    with hub_of(tmp_path, digits=model) as hub:
        found, _ = resolved(
            hub,
            "hf-hub:someone/digits",
            "hf-hub:someone/digits@main",
            "hf-hub:someone/other",
            "hf-hub:someone/digits/best.safetensors",
            "hf-hub:someone/digits@v9",
            "hf-hub:someone",
        )
        assert len([asked for asked in Handler.asked if asked.startswith("GET /someone")]) == 1
        assert not [asked for asked in Handler.asked if "config.json" in asked]
    path = Path(found[0])
    assert path == place / "digits" / "digits.safetensors"
    assert path.read_bytes() == model.files["model.safetensors"]
    assert Path(found[1]) == place / "digits-main" / "digits-main.safetensors"
    assert found[2][0] == "cannot fetch `hf-hub:someone/other`: there is no such model"
    assert "has no file `best.safetensors`" in found[3][0]
    assert found[3][1] == "name one: `hf-hub:someone/digits/model.safetensors`"
    assert found[4][0] == "cannot fetch `hf-hub:someone/digits@v9`: there is no such revision"
    assert found[5][1] == "write `hf-hub:OWNER/NAME`"
    # Without the server the model is still there, and another one is not.
    again, _ = resolved(
        hub | {"HF_HUB_OFFLINE": "1"}, "hf-hub:someone/digits", "hf-hub:someone/other@v1"
    )
    assert again[0] == str(path)
    assert "`HF_HUB_OFFLINE` is set, and `model.safetensors` or" in again[1][0]
    assert again[1][1].endswith("`hf download someone/other --revision v1`")


def test_its_results_go_into_the_working_directory(tmp_path: Path) -> None:
    model = ours()
    with hub_of(tmp_path, digits=model) as hub:
        drawn = parsed(jeat("sample", "hf-hub:someone/digits", *FEW, JEAT_DEVICE="cpu", **hub))
    assert drawn["run"] == "digits"
    assert Path(drawn["outputs"]["images"]).parent == tmp_path / "digits" / "samples"
    names = {path.name for path in (tmp_path / "jeat-cache" / "hub").rglob("*")}
    assert names == {"someone", model.commit, "digits", "digits.safetensors"}


def test_the_configuration_of_others_is_read_as_in_a_directory(tmp_path: Path) -> None:
    """So that a normalisation in it is asked for, and not passed over."""
    with hub_of(tmp_path, net=theirs()) as hub:
        attack = ("attack", "hf-hub:someone/net", *DESCRIBED, "-n", "4", "--attack", "fgsm")
        said = jeat(*attack, JEAT_DEVICE="cpu", **hub)
        assert said.returncode == 2
        words = " ".join(said.stderr.split())
        assert "config.json` records a normalisation, `--mean 0.1 --std 0.3`" in words
        given = (*attack, "--mean", "0.1", "--std", "0.3", "--json")
        assert parsed(jeat(*given, JEAT_DEVICE="cpu", **hub))["run"] == "net"


def test_all_files_of_an_index_are_fetched_from_one_revision(tmp_path: Path) -> None:
    model = sharded()
    with hub_of(tmp_path, net=model) as hub:
        given = (*DESCRIBED, "--mean", "0", "--std", "1", "--init", "uniform", *FEW)
        drawn = parsed(jeat("sample", "hf-hub:someone/net", *given, JEAT_DEVICE="cpu", **hub))
        assert drawn["run"] == "net"
        fetched = [asked for asked in Handler.asked if "-of-00002" in asked]
        assert len(fetched) == 4
        assert all(f"/resolve/{model.commit}/" in asked for asked in fetched)
    # All of it is there without a network, and nothing is missed that the hub has not.
    found, warned = resolved(hub | {"HF_HUB_OFFLINE": "1"}, "hf-hub:someone/net")
    assert Path(found[0]).name == "model.safetensors.index.json"
    assert warned == []


def test_files_in_folders_have_their_own_configuration(tmp_path: Path) -> None:
    files = {f"a/{name}": content for name, content in theirs().files.items()}
    files |= {"b/model.safetensors": files["a/model.safetensors"][:-8]}
    with hub_of(tmp_path, net=Repository(files)) as hub:
        runs = [f"hf-hub:someone/net/{folder}/model.safetensors" for folder in "ab"]
        (one, two), _ = resolved(hub, *runs)
    assert Path(one).with_name("config.json").read_text() == CONFIG
    assert not Path(two).with_name("config.json").exists()
    assert Path(one).read_bytes() == files["a/model.safetensors"]


def test_another_commit_does_not_change_what_is_in_use(tmp_path: Path) -> None:
    model = theirs()
    with hub_of(tmp_path, net=model) as hub:
        (before,), _ = resolved(hub, "hf-hub:someone/net")
        model.commit, model.files = "b" * 40, theirs(config="").files
        (after,), _ = resolved(hub, "hf-hub:someone/net")
    assert Path(before).with_name("config.json").is_file()
    assert not Path(after).with_name("config.json").exists()


@pytest.mark.parametrize(
    ("status", "error", "message", "hint"),
    [
        (401, "", "the hub asks for a login", "`hf auth login`"),
        (401, "Invalid credentials in Authorization header", "not accept your token", "`HF_TOKEN`"),
        (403, "no", "your token does not allow it", "`hf auth login` with a token"),
        (429, "", "refuses more requests for now", "try again later"),
        (503, "", "the hub answers HTTP 503", "try again later"),
    ],
)
def test_what_the_hub_answers_is_said(
    tmp_path: Path, status: int, error: str, message: str, hint: str
) -> None:
    model = Repository({}, status={"*": status}, error=error)
    with hub_of(tmp_path, net=model) as hub:
        (found,), _ = resolved(hub, "hf-hub:someone/net")
    assert message in found[0]
    assert hint in found[1]


def test_a_download_that_breaks_off_is_taken_up_again_or_said(tmp_path: Path) -> None:
    model = theirs()
    model.broken["model.safetensors"] = 2
    with hub_of(tmp_path, net=model) as hub:
        (found,), _ = resolved(hub, "hf-hub:someone/net")
        assert Path(found).read_bytes() == model.files["model.safetensors"]
    other = sharded()
    name = "model-00002-of-00002.safetensors"
    other.broken[name] = 99
    with hub_of(tmp_path, other=other) as hub:
        (found,), _ = resolved(hub, "hf-hub:someone/other")
        assert "broke off" in found[0]
        assert "try again" in found[1]
        other.broken.clear()
        (found,), _ = resolved(hub, "hf-hub:someone/other")
    assert Path(found).with_name(name).read_bytes() == other.files[name]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    model = sharded()
    del model.files["model-00002-of-00002.safetensors"]
    with hub_of(tmp_path, net=model) as hub:
        (found,), _ = resolved(hub, "hf-hub:someone/net")
    assert "has no file `model-00002-of-00002.safetensors`" in found[0]


def test_a_configuration_that_cannot_be_fetched_is_said(tmp_path: Path) -> None:
    model = theirs()
    model.status["config.json"] = 500
    with hub_of(tmp_path, net=model) as hub:
        (found,), warned = resolved(hub, "hf-hub:someone/net")
    assert Path(found).is_file()
    assert len(warned) == 1
    assert "a normalisation in `config.json` would not be noticed" in warned[0]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "hf").write_text("a file")
    with hub_of(tmp_path, net=theirs()) as hub:
        (found,), _ = resolved(hub, "hf-hub:someone/net")
    assert "cannot write into the hub's cache" in found[0]
    assert "`HF_HOME`" in found[1]


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}
    (found,), _ = resolved(nowhere, "hf-hub:someone/digits")
    assert "the hub cannot be reached" in found[0]
    assert "check the network" in found[1]
