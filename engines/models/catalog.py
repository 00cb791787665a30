"""Which checkpoint a name means, and what is installed."""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from engines.host import mac_files
from engines.models import checkpoint, foreign
from engines.models.checkpoint import Checkpoint
from engines.models.model_files import read_text
from engines.models.registry import ARCHITECTURES, Architectures, default_names
from engines.types.common import DOES, Capability
from engines.types.errors import CheckpointUnusable, ModelNotInstalled, UnknownModel, WrongCapability, raise_shortage

MOST_REVISION_BYTES = 1000


class Roots(msgspec.Struct, frozen=True):
    """Where to look: caches of the hub, folders of NAME or ORG/NAME, and configured folders of NAME."""

    hubs: tuple[Path, ...] = ()
    plain: tuple[Path, ...] = ()
    configured: tuple[Path, ...] = ()


def hub_cache(environ: Mapping[str, str], home: Path) -> Path:
    """The cache that huggingface_hub downloads to under this environment."""
    if cache := environ.get("HF_HUB_CACHE"):
        return _expanded(cache, home)
    if base := environ.get("HF_HOME"):
        return _expanded(base, home) / "hub"
    if cache := environ.get("XDG_CACHE_HOME"):
        return _expanded(cache, home) / "huggingface" / "hub"
    return home / ".cache" / "huggingface" / "hub"


def default_roots(environ: Mapping[str, str], home: Path, configured: tuple[Path, ...] = ()) -> Roots:
    """The usual places below `home`; those that don't exist are looked at again each time."""
    plain = (home / "models", home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models")
    return Roots((hub_cache(environ, home),), plain, configured)


class Entry(msgspec.Struct, frozen=True):
    """A model on disk. `key` is the real path of its folder; the first of `names` is its main one."""

    key: str
    names: tuple[str, ...]
    checkpoint: Checkpoint


class NotInstalled(msgspec.Struct, frozen=True):
    """A name that is known, for a repository or folder that isn't on disk; what it does is known of default names."""

    name: str
    repository: str
    capability: Capability | None


def folded(name: str) -> str:
    """As names are compared: in any case, and in either form of Unicode (on HFS+ and SMB é is two characters)."""
    return unicodedata.normalize("NFC", name).casefold()


class _Found(msgspec.Struct, frozen=True):
    """`is_listed` False: a folder of another format alone, which is known by its name, to say what it is."""

    folder: Path
    name: str
    is_listed: bool = True

    def answers_to(self, name: str) -> bool:
        return folded(name) in (folded(self.name), folded(self.name.rpartition("/")[2]))


class _Meant(msgspec.Struct, frozen=True):
    """What a name stands for: `target`; before that, for a default name, a user's own folder that is called so."""

    target: str
    own: str = ""


class Catalog:
    """Looks at the disk on every call, so that a model is known as soon as it is there."""

    def __init__(self, roots: Roots, aliases: Mapping[str, str], architectures: Architectures = ARCHITECTURES) -> None:
        self._roots = roots
        self._architectures = architectures
        default = default_names(architectures)
        self._capabilities = dict(default.values())  # by repository
        defaults = {name: _Meant(repository, name) for name, (repository, _) in default.items()}
        known = {alias: defaults.get(folded(target), _Meant(target)) for alias, target in aliases.items()}
        taken = {folded(alias) for alias in aliases}
        self._known = [*known.items(), *(pair for pair in defaults.items() if pair[0] not in taken)]

    def repository(self, name: str) -> str | None:
        """What an alias or a default name stands for, or the name itself if it is ORG/NAME; else None."""
        meant = self._meant(name)
        return meant.target if meant is not None else None

    def _meant(self, name: str) -> _Meant | None:
        for known, meant in self._known:
            if folded(known) == folded(name):
                return meant
        return _Meant(name) if _is_repository(name) else None

    def resolve(self, name: str, capability: Capability | None = None) -> Entry:
        """The usable model of this name, whatever its case, that does what is wanted (None: anything).

        Raises `UnknownModel`, `ModelNotInstalled`, `CheckpointUnusable` or `WrongCapability`.
        """
        if _is_path(name):
            raise self._unknown(name)
        found = list(_scan(self._roots))
        meant = self._meant(name)
        folder = self._folder(meant or _Meant(name), found)
        if folder is None and meant is None:
            raise self._unknown(name, found)
        if folder is None:
            told = _not_installed(name, meant.target if meant else name)
            raise ModelNotInstalled(" ".join([told, *_closed(self._roots)]), param="model")
        seen = checkpoint.inspect(folder, self._architectures)
        _require(name, seen, capability)
        return Entry(str(folder.resolve()), self._names(folder, found), seen)

    def translators(self) -> list[str]:
        """The main names of what is installed and translates into English."""
        there = (entry for entry in self.entries() if isinstance(entry, Entry))
        return [entry.names[0] for entry in there if entry.checkpoint.translates and not entry.checkpoint.missing]

    def entries(self) -> list[Entry | NotInstalled]:
        """Everything on disk and every known name, the known names first, then by name. Broken ones are included."""
        found = list(_scan(self._roots))
        listed: dict[Path, Entry] = {}
        absent: list[NotInstalled] = []
        for name, meant in self._known:
            if folder := self._folder(meant, found):
                listed.setdefault(folder, self._listed(folder, found))
            else:
                absent.append(NotInstalled(name, meant.target, self._capabilities.get(meant.target)))
        for item in sorted(found, key=lambda item: folded(item.name)):
            if item.is_listed and item.folder not in listed:
                listed[item.folder] = self._listed(item.folder, found)
        return [*listed.values(), *absent]

    def _listed(self, folder: Path, found: list[_Found]) -> Entry:
        return Entry(str(folder), self._names(folder, found), self._inspect_broken(folder))

    def _names(self, folder: Path, found: list[_Found]) -> tuple[str, ...]:
        """All names by which `resolve` gives this folder; its full name even where another copy comes first."""
        names = [name for name, meant in self._known if self._folder(meant, found) == folder]
        taken = {folded(name) for name, _ in self._known}
        own = [item.name for item in found if item.folder == folder]
        for name in [*own, *(name.rpartition("/")[2] for name in own)]:
            if folded(name) not in taken and self._folder(_Meant(name), found) == folder:
                taken.add(folded(name))
                names.append(name)
        return tuple(names) or (own[0],)

    def _inspect_broken(self, folder: Path) -> Checkpoint:
        """As `inspect`, for listing: a file that can't be read counts as missing."""
        try:
            return checkpoint.inspect(folder, self._architectures)
        except CheckpointUnusable as error:
            return Checkpoint(str(folder), "", None, 0, 0, 0, 0, (error.message,))

    def _folder(self, meant: _Meant, found: list[_Found]) -> Path | None:
        """The folder that is meant: one that a user called so before full names before last parts; complete ones
        first."""
        name = meant.target
        mine = [item.folder for item in found if folded(item.name) == meant.own]
        exact = [item.folder for item in found if folded(item.name) == folded(name)]
        last = name.rpartition("/")[2]
        # A folder NAME without an organisation may be anyone's copy of ORG/NAME; OTHER/NAME is not.
        loose = [item.folder for item in found if item.answers_to(last) and ("/" not in name or "/" not in item.name)]
        folders = list(dict.fromkeys([*mine, *exact, *loose]))
        if len(folders) < 2:
            return folders[0] if folders else None
        return next((folder for folder in folders if not self._inspect_broken(folder).missing), folders[0])

    def _unknown(self, name: str, found: list[_Found] | None = None) -> UnknownModel:
        found = list(_scan(self._roots)) if found is None else found
        known = dict.fromkeys(
            [*(name for name, _ in self._known), *sorted(item.name for item in found if item.is_listed)]
        )
        told = (
            f"There is no model {name!r}. Known: {', '.join(known)}. "
            "Add one with `mlx-local models pull ORG/NAME`, or give it a name in the configuration's aliases."
        )
        return UnknownModel(" ".join([told, *_closed(self._roots)]), param="model")


def _not_installed(name: str, target: str) -> str:
    if _is_repository(target):
        return f"{name} isn't installed. Fetch it: mlx-local models pull {target}"
    return f"{name} stands for {target!r}, which is in none of the model folders. Correct it in the configuration."


def _closed(roots: Roots) -> Iterator[str]:
    """Of each folder of models that this process may not look into, a sentence: the model may be there."""
    for root in (*roots.configured, *roots.hubs, *roots.plain):
        try:
            os.scandir(root).close()
        except PermissionError as error:
            yield f"It may be in {root}, which can't be read: {mac_files.reason(error)}."
        except OSError:
            continue


def _require(name: str, seen: Checkpoint, wanted: Capability | None) -> None:
    """What it does is known by its architecture, also where a file is missing."""
    if seen.capability is not None and wanted not in (None, seen.capability):
        does, should = DOES[seen.capability], DOES[wanted or seen.capability]
        raise WrongCapability(f"{name} is a model that {does}; this request is for one that {should}.", param="model")
    if seen.capability is None and seen.architecture:
        message = f"{name} is a {seen.architecture} model, of a kind that can't be run here."
        raise WrongCapability(message, param="model")
    if seen.foreign:
        raise CheckpointUnusable(f"{name} can't be run: {seen.folder} {seen.foreign}", param="model")
    if seen.missing:
        what = ", ".join(seen.missing)
        raise CheckpointUnusable(f"{name} is incomplete; missing in {seen.folder}: {what}.", param="model")


def _is_path(name: str) -> bool:
    parts = name.split("/")
    return not name or name.startswith("~") or "\\" in name or "\0" in name or any(p in ("", ".", "..") for p in parts)


def _is_repository(name: str) -> bool:
    return name.count("/") == 1 and not _is_path(name)


def _expanded(path: str, home: Path) -> Path:
    if path == "~" or path.startswith("~/"):
        return home / path[2:]
    return Path(path)


def _scan(roots: Roots) -> Iterator[_Found]:
    for root in roots.configured:
        for folder in _folders(root):
            if _looks_like_one(folder) or _is_foreign(folder):
                yield _Found(folder.resolve(), folder.name, _looks_like_one(folder))
    for hub in roots.hubs:
        yield from _scan_hub(hub)
    for root in roots.plain:
        for folder in _folders(root):
            if _looks_like_one(folder):
                yield _Found(folder.resolve(), folder.name)
                continue
            for below in _folders(folder):
                if _looks_like_one(below) or _is_foreign(below):
                    yield _Found(below.resolve(), f"{folder.name}/{below.name}", _looks_like_one(below))
            if _is_foreign(folder):
                yield _Found(folder.resolve(), folder.name, is_listed=False)


def _scan_hub(hub: Path) -> Iterator[_Found]:
    for folder in _folders(hub):
        kind, _, rest = folder.name.partition("--")
        organisation, separator, name = rest.partition("--")
        snapshot = _snapshot(folder) if kind == "models" and separator else None
        if snapshot is not None:
            yield _Found(snapshot.resolve(), f"{organisation}/{name}")


def _snapshot(repository: Path) -> Path | None:
    """The revision that refs/main names; without that file, the newest there is."""
    snapshots = {folder.name: folder for folder in _folders(repository / "snapshots")}
    try:
        revision = read_text(repository / "refs" / "main", MOST_REVISION_BYTES)
    except CheckpointUnusable:
        revision = None
    if revision is not None:
        return snapshots.get(revision.strip())
    return max(snapshots.values(), key=lambda folder: folder.stat().st_mtime, default=None)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if _has_a_name(path) and path.is_dir())
    except OSError as error:
        raise_shortage(error)
        return []


def _has_a_name(folder: Path) -> bool:
    """Not hidden, and in UTF-8: no client could ask for another, and no answer could hold it."""
    name = folder.name
    return not name.startswith(".") and name == name.encode(errors="ignore").decode()


def _looks_like_one(folder: Path) -> bool:
    return any(name == "config.json" or name.endswith(".safetensors") for name in foreign.names(folder))


def _is_foreign(folder: Path) -> bool:
    return foreign.is_one(foreign.names(folder))
