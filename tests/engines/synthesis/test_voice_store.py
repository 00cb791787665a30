import builtins
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.synthesis.voice_store import StoredVoice, VoiceStore, checked_name
from engines.types.errors import InvalidRequest

CONSENT = "I, Anna, agree that my voice is imitated on this machine."


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore(tmp_path / "voices")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "anna.m4a"
    file.write_bytes(b"sound of anna")
    return file


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_voice_is_kept_with_its_text_and_consent(store: VoiceStore, recording: Path) -> None:
    added = store.add("Anna", recording, "Hello there.", CONSENT)
    assert added == store.get("anna") == store.stored()[0]
    assert Path(added.recording).read_bytes() == b"sound of anna"
    assert (added.name, added.text, added.consent) == ("Anna", "Hello there.", CONSENT)
    (voice,) = store.voices()
    assert (voice.name, voice.stored, voice.consent) == ("Anna", True, CONSENT)


def test_a_deleted_voice_is_gone_with_its_files(store: VoiceStore, recording: Path, tmp_path: Path) -> None:
    store.add("anna", recording, "", CONSENT)
    assert store.delete("ANNA")
    assert not store.delete("anna")
    assert store.get("anna") is None and store.stored() == ()
    assert list((tmp_path / "voices").iterdir()) == []
    store.add("anna", recording, "", CONSENT)


def test_a_voice_is_never_overwritten(store: VoiceStore, recording: Path, tmp_path: Path) -> None:
    store.add("anna", recording, "first", CONSENT)
    before = contents(tmp_path / "voices")
    with pytest.raises(InvalidRequest, match="already"):
        store.add("ANNA", recording, "second", CONSENT)
    assert contents(tmp_path / "voices") == before


def test_of_two_who_add_the_same_name_at_once_one_is_told(
    store: VoiceStore, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("anna", recording, "first", CONSENT)
    with monkeypatch.context() as patch:
        patch.setattr(store, "get", lambda name: None)  # as if the other came between the look and the rename
        with pytest.raises(InvalidRequest, match="already"):
            store.add("anna", recording, "second", CONSENT)
    kept = store.get("anna")
    assert kept is not None and kept.text == "first"


@pytest.mark.parametrize("name", ["Anna", "李雷", "ann_2-b", "Éva", "नमस्ते", "9"])
def test_letters_of_any_script_make_a_name(name: str) -> None:
    assert checked_name(name) == name


BAD = ["", " ", "../x", "a/b", "a\\b", ".hidden", "-x", "a b", "a\0b", "x" * 61, "~", "nul:", "alloy", "Vivian", "😀"]


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_paths_signs_and_names_of_other_voices_make_none(name: str, store: VoiceStore, recording: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        store.add(name, recording, "", CONSENT)
    assert caught.value.param == "name"
    assert store.get(name) is None and not store.delete(name)


def test_without_consent_no_voice_is_stored(store: VoiceStore, recording: Path) -> None:
    with pytest.raises(InvalidRequest, match="consent"):
        store.add("anna", recording, "", " ")
    assert store.stored() == ()


def test_what_is_incomplete_or_not_ours_is_passed_over(store: VoiceStore, recording: Path, tmp_path: Path) -> None:
    added = store.add("anna", recording, "", CONSENT)
    folder = tmp_path / "voices"
    (folder / "empty").mkdir()
    (folder / "file").write_text("x", encoding="utf-8")
    (folder / "broken").mkdir()
    (folder / "broken" / "voice.json").write_text("{", encoding="utf-8")
    assert store.stored() == (added,)


def test_what_a_dead_process_left_is_swept_up_after_a_day(store: VoiceStore, recording: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    for name in (".new-old", ".new-fresh"):
        (folder / name).mkdir(parents=True)
    os.utime(folder / ".new-old", (0, 0))
    store.add("anna", recording, "", CONSENT)
    assert sorted(path.name for path in folder.iterdir()) == [".new-fresh", "anna"]


class Fault(OSError):
    pass


def failing_at(number: int, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make the n-th operation on the disk fail; how many there were."""
    count = 0

    def faulty(original: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise Fault(28, "no space left")
            return original(*arguments, **named)

        return called

    for place, name in ((os, "fsync"), (os, "rename"), (os, "mkdir"), (shutil, "copyfileobj"), (builtins, "open")):
        patch.setattr(place, name, faulty(getattr(place, name)))
    patch.setattr(Path, "open", faulty(Path.open))
    return lambda: count


def test_whatever_fails_a_voice_is_there_whole_or_not_at_all(
    store: VoiceStore, recording: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "voices"
    for number in range(1, 50):
        with pytest.MonkeyPatch.context() as patch:
            operations = failing_at(number, patch)
            try:
                store.add("anna", recording, "Hello.", CONSENT)
                failed = False
            except Fault:
                failed = True
        voice = store.get("anna")
        if voice is not None:
            assert voice == StoredVoice("Anna".lower(), "Hello.", CONSENT, str(folder / "anna" / "recording"))
            assert Path(voice.recording).read_bytes() == b"sound of anna"
        else:
            assert failed
        assert not folder.exists() or [path.name for path in folder.iterdir()] == (["anna"] if voice else [])
        store.delete("anna")
        if not failed and operations() < number:
            assert number > 6
            return
    raise AssertionError("no run met no fault")
