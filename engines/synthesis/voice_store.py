"""Named voices that users recorded, each in a folder of its own beside its text and the speaker's consent.

A voice appears whole or not at all, is never overwritten, and goes at once. The folder's name is the voice's in small
letters, so that names that differ in case alone are one on every file system.
"""

import os
import shutil
import tempfile
import time
import unicodedata
from contextlib import suppress
from pathlib import Path

import msgspec

from engines.models.voices import NATIVE_LANGUAGES, OPENAI_VOICES
from engines.types.audio import Voice
from engines.types.errors import InvalidRequest
from files.durability import sync, sync_folder
from files.publish import publish_folder

LONGEST_NAME = 60
ABANDONED_SECONDS = 24 * 3600.0
_CARD, _RECORDING = "voice.json", "recording"


class StoredVoice(msgspec.Struct, frozen=True):
    """`recording` is the file of a voice, in which `text` is spoken ("" if nobody said what)."""

    name: str
    text: str
    consent: str
    recording: str


class _Card(msgspec.Struct, frozen=True):
    name: str
    text: str
    consent: str


class VoiceStore:
    """The voices in `folder`, which is made when the first is added. All of it blocks: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, recording: Path, text: str, consent: str) -> StoredVoice:
        """Copy a recording in. Raises `InvalidRequest` for a bad name, one that exists, or a missing consent."""
        name = checked_name(name)
        if not consent.strip():
            message = "consent is missing: say in words that the person who speaks agreed to have the voice imitated."
            raise InvalidRequest(message, param="consent")
        if self.get(name) is not None:
            raise _taken(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            _copy(recording, made / _RECORDING)
            _write(made / _CARD, msgspec.json.encode(_Card(name, text, consent)))
            sync_folder(made)
            publish_folder(made, self._place(name))
        except FileExistsError as error:
            raise _taken(name) from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return StoredVoice(name, text, consent, str(self._place(name) / _RECORDING))

    def get(self, name: str) -> StoredVoice | None:
        """The voice of this name, whatever its case; None if there is none, or the name is no name."""
        try:
            return self._read(self._place(checked_name(name)))
        except InvalidRequest:
            return None

    def stored(self) -> tuple[StoredVoice, ...]:
        """All, by name. A folder of which anything is missing is passed over."""
        try:
            folders = sorted(path for path in self._folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return ()
        return tuple(voice for voice in map(self._read, folders) if voice is not None)

    def voices(self) -> tuple[Voice, ...]:
        """As they are listed."""
        return tuple(
            Voice(voice.name, stored=True, consent=voice.consent, created=_changed(Path(voice.recording)))
            for voice in self.stored()
        )

    def delete(self, name: str) -> bool:
        """Whether there was one. It is gone at once, its files a little later."""
        if self.get(name) is None:
            return False
        grave = Path(tempfile.mkdtemp(prefix=".old-", dir=self._folder))
        try:
            os.rename(self._place(checked_name(name)), grave / "voice")
        except FileNotFoundError:
            return False
        finally:
            sync_folder(self._folder)
            shutil.rmtree(grave, ignore_errors=True)
        return True

    def _place(self, name: str) -> Path:
        return self._folder / name.casefold()

    def _read(self, place: Path) -> StoredVoice | None:
        recording = place / _RECORDING
        try:
            card = msgspec.json.decode((place / _CARD).read_bytes(), type=_Card)
        except (OSError, msgspec.DecodeError):
            return None
        if not recording.is_file():
            return None
        return StoredVoice(card.name, card.text, card.consent, str(recording))

    def _sweep(self) -> None:
        """What a process that died left behind."""
        oldest = time.time() - ABANDONED_SECONDS
        for path in (*self._folder.glob(".new-*"), *self._folder.glob(".old-*")):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)


def _changed(path: Path) -> int:
    """Seconds since 1970; 0 if it is gone by now."""
    try:
        return int(path.stat().st_mtime)
    except OSError:
        return 0


def checked_name(name: str) -> str:
    """Raises `InvalidRequest` unless it is made of letters of any script, digits, - and _, and means no other voice."""
    name = unicodedata.normalize("NFC", name.strip())
    plain = all(char in "-_" or unicodedata.category(char)[0] in "LM" or char.isdecimal() for char in name)
    if not name or len(name) > LONGEST_NAME or not plain or not name[0].isalnum():
        rule = f"use up to {LONGEST_NAME} letters of any script, digits, - and _, the first a letter or digit"
        raise InvalidRequest(f"{name[:LONGEST_NAME]!r} can't be a voice's name: {rule}.", param="name")
    if name.casefold() in {*OPENAI_VOICES, *NATIVE_LANGUAGES}:
        raise InvalidRequest(f"{name!r} is the name of a voice that models have; choose another.", param="name")
    return name


def _taken(name: str) -> InvalidRequest:
    return InvalidRequest(f"There is a voice {name!r} already. Delete it first, or choose another name.", param="name")


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        sync(written.fileno())


def _write(target: Path, content: bytes) -> None:
    with target.open("xb") as written:
        written.write(content)
        written.flush()
        sync(written.fileno())
