import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.models.catalog import Catalog, Entry, NotInstalled, Roots, default_roots
from engines.models.registry import DEFAULTS
from engines.types.errors import CheckpointUnusable, ModelNotInstalled, UnknownModel, WrongCapability
from tests.promises import promise


def write(folder: Path, kind: str = "qwen3") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    (folder / "model.safetensors").write_bytes(b"1")
    return folder


def write_hub(home: Path, repository: str, revision: str = "abc") -> Path:
    folder = home / ".cache/huggingface/hub" / ("models--" + repository.replace("/", "--"))
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(revision)
    return write(folder / "snapshots" / revision)


def catalog(home: Path, **aliases: str) -> Catalog:
    return Catalog(default_roots({}, home, (home / "own",)), aliases)


def test_a_default_name_means_its_repository(tmp_path: Path) -> None:
    folder = write_hub(tmp_path, "mlx-community/Qwen3-14B-4bit")
    entry = catalog(tmp_path).resolve("qwen3-14b")
    assert entry.key == str(folder.resolve())
    assert entry.names == ("qwen3-14b", "mlx-community/Qwen3-14B-4bit", "Qwen3-14B-4bit")


def test_a_folder_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    """No answer can hold such a name: one of them made the list of models an error of the server."""
    write(tmp_path / "fine")
    try:
        write(tmp_path / os.fsdecode(b"bad\xff"))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    found = Catalog(Roots(configured=(tmp_path,)), {}).entries()
    assert [one.names[0] for one in found if isinstance(one, Entry)] == ["fine"]


def test_refs_main_chooses_the_revision(tmp_path: Path) -> None:
    write_hub(tmp_path, "org/a", "old")
    newer = write_hub(tmp_path, "org/a", "new")
    assert catalog(tmp_path).resolve("org/a").key == str(newer.resolve())


@pytest.mark.parametrize(
    "place", ["models/m", "models/org/m", ".lmstudio/models/org/m", ".cache/lm-studio/models/org/m", "own/m"]
)
def test_models_are_found_in_the_usual_places(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / place)
    assert catalog(tmp_path).resolve("m").key == str(folder.resolve())


def test_nothing_is_found_deeper_than_two_levels(tmp_path: Path) -> None:
    write(tmp_path / "models/a/b/c")
    with pytest.raises(UnknownModel):
        catalog(tmp_path).resolve("c")


def test_the_environment_moves_the_hub(tmp_path: Path) -> None:
    both = {"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}
    assert default_roots(both, tmp_path).hubs == (Path("/a"),)
    assert default_roots({"HF_HOME": "~/b"}, tmp_path).hubs == (tmp_path / "b/hub",)


def test_an_alias_wins_over_a_default_name(tmp_path: Path) -> None:
    write_hub(tmp_path, "mlx-community/Qwen3-14B-4bit")
    demo = write(tmp_path / "own/demo-qwen3")
    known = catalog(tmp_path, **{"qwen3-14b": "demo-qwen3"})
    assert known.resolve("QWEN3-14b").key == str(demo.resolve())
    assert "qwen3-14b" not in known.resolve("Qwen3-14B-4bit").names


@pytest.mark.parametrize("place", ["own/qwen3-asr", "models/Qwen3-ASR"])
@pytest.mark.parametrize("published", [False, True])
def test_a_users_own_model_that_is_called_like_a_default_name_wins(tmp_path: Path, place: str, published: bool) -> None:
    mine = write(tmp_path / place, "qwen3_asr")
    if published:
        write_hub(tmp_path, "mlx-community/Qwen3-ASR-1.7B-8bit")
    known = catalog(tmp_path, ears="qwen3-asr")
    assert known.resolve("qwen3-asr") == known.resolve("ears") == known.resolve("QWEN3-ASR")
    assert known.resolve("qwen3-asr").key == str(mine.resolve())
    entries = [item for item in known.entries() if isinstance(item, Entry)]
    assert [(item.names[:2], item.key) for item in entries][0] == (("ears", "qwen3-asr"), str(mine.resolve()))
    assert known.repository("qwen3-asr") == "mlx-community/Qwen3-ASR-1.7B-8bit"  # what a pull fetches


def test_an_alias_wins_over_a_folder_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "own/qwen3-14b")
    other = write(tmp_path / "own/other")
    assert catalog(tmp_path, **{"qwen3-14b": "other"}).resolve("qwen3-14b").key == str(other.resolve())


def test_an_alias_may_name_a_default_name(tmp_path: Path) -> None:
    folder = write_hub(tmp_path, "mlx-community/Qwen3-14B-4bit")
    assert catalog(tmp_path, chat="qwen3-14b").resolve("chat").key == str(folder.resolve())


@promise("core:names:case")
@given(st.data())
def test_case_does_not_matter(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["qwen3-14b", "Org/Thing", "Thing", "mlx-community/Qwen3-14B-4bit", "nick"]))
    upper = data.draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    spelled = "".join(c.upper() if up else c.lower() for c, up in zip(name, upper, strict=True))
    with tempfile.TemporaryDirectory() as home:
        write_hub(Path(home), "mlx-community/Qwen3-14B-4bit")
        write_hub(Path(home), "Org/Thing")
        known = catalog(Path(home), Nick="org/thing")
        assert known.resolve(spelled) == known.resolve(name)


def test_an_unknown_name_lists_the_known_ones_and_how_to_add_one(tmp_path: Path) -> None:
    write(tmp_path / "own/mine")
    with pytest.raises(UnknownModel, match=r"(?s)qwen3-14b.*mine.*models pull"):
        catalog(tmp_path).resolve("gpt-4o")


@pytest.mark.parametrize("name, repository", [("qwen3-14b", "mlx-community/Qwen3-14B-4bit"), ("org/x", "org/x")])
def test_a_model_that_is_not_on_disk_says_how_to_fetch_it(tmp_path: Path, name: str, repository: str) -> None:
    with pytest.raises(ModelNotInstalled, match=f"mlx-local models pull {repository}"):
        catalog(tmp_path).resolve(name)


def test_another_organisations_copy_is_not_taken(tmp_path: Path) -> None:
    write_hub(tmp_path, "other/Qwen3-14B-4bit")
    with pytest.raises(ModelNotInstalled):
        catalog(tmp_path).resolve("qwen3-14b")


def test_an_incomplete_model_says_what_is_missing(tmp_path: Path) -> None:
    (write(tmp_path / "own/m") / "tokenizer.json").unlink()
    with pytest.raises(CheckpointUnusable, match=r"tokenizer\.json"):
        catalog(tmp_path).resolve("m")


def test_a_complete_copy_is_preferred(tmp_path: Path) -> None:
    (write_hub(tmp_path, "org/m") / "model.safetensors").unlink()
    whole = write(tmp_path / "models/org/m")
    assert catalog(tmp_path).resolve("org/m").key == str(whole.resolve())


def test_a_model_that_cannot_chat_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "own/ears", "whisper")
    with pytest.raises(WrongCapability, match="ears is a model that transcribes; this request is for one that chats"):
        catalog(tmp_path).resolve("ears", "chat")
    write(tmp_path / "own/eyes", "bert")
    with pytest.raises(WrongCapability, match="bert"):
        catalog(tmp_path).resolve("eyes")


@promise("core:names:no-paths")
@pytest.mark.parametrize("shape", ["{0}", "~/own/m", "..", "../m", "own\\m", "", "org/../m", "./m", "m\0"])
def test_a_path_is_never_opened(tmp_path: Path, shape: str) -> None:
    folder = write(tmp_path / "own/m")
    with pytest.raises(UnknownModel):
        catalog(tmp_path).resolve(shape.format(folder))


def test_two_names_of_one_folder_are_one_entry(tmp_path: Path) -> None:
    folder = write(tmp_path / "own/m")
    (tmp_path / "own/n").symlink_to(folder)
    listed = catalog(tmp_path, short="m").entries()
    entries = [item for item in listed if isinstance(item, Entry)]
    assert [item.names for item in entries] == [("short", "m", "n")]
    assert [item.name for item in listed if isinstance(item, NotInstalled)] == list(DEFAULTS)


def test_a_damaged_model_does_not_spoil_the_list(tmp_path: Path) -> None:
    (write(tmp_path / "own/bad") / "config.json").write_text("{")
    write(tmp_path / "own/good")
    entries = [item for item in catalog(tmp_path).entries() if isinstance(item, Entry)]
    assert [(item.names[0], bool(item.checkpoint.missing)) for item in entries] == [("bad", True), ("good", False)]


def test_resolving_among_200_folders_is_quick(tmp_path: Path) -> None:
    for number in range(200):
        write(tmp_path / f"own/m{number}")
    known = Catalog(Roots(configured=(tmp_path / "own",)), {})
    start = time.perf_counter()
    known.resolve("m199")
    assert time.perf_counter() - start < 1
