"""Every setting, once: the file, the environment, the flags and the reference all derive from `Settings`.

A later source wins: default, file, environment (`MLX_LOCAL_PORT`), flag (`--port`). `load` remembers which one won.
"""

import argparse
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, get_args, get_origin

import msgspec
import platformdirs
from msgspec import Meta

from mlx_local_inference.list_items import check_items

PREFIX = "MLX_LOCAL_"
NOT_SETTINGS = frozenset({"MLX_LOCAL_URL", "MLX_LOCAL_RUN_DIR"})
SECRETS = frozenset({"api_keys"})
FLAGS = {"model_dirs": "--models-dir"}  # where a flag, given once for each value, is not its key

Port = Annotated[int, Meta(ge=0, le=65535)]
Address = Annotated[str, Meta(min_length=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of the service. Times are seconds; the unit of a size is in its name."""

    host: Annotated[
        Address, Meta(description="address that the HTTP server listens on; localhost is 127.0.0.1 and ::1")
    ] = "localhost"
    port: Annotated[Port, Meta(description="port of the HTTP server, 0 for any free one")] = 8787
    audio_host: Annotated[Address, Meta(description="address of the audio service, likewise")] = "localhost"
    audio_port: Annotated[Port, Meta(description="port of the audio service")] = 8788
    api_keys: Annotated[tuple[str, ...], Meta(description="keys that clients must present, none for no check")] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="names by which clients may call the server, beside its own; for any port, or as name:port"),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(description="origins of web pages and apps that may call the server and read its answers, beside its own"),
    ] = ()
    aliases: Annotated[dict[str, str], Meta(description="further names of models, as alias=model")] = {}
    model_dirs: Annotated[tuple[str, ...], Meta(description="folders with models, beside the usual places")] = ()
    memory_budget_gb: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="memory for models in GB, at most what the GPU recommends; three quarters of all if unset"),
    ] = None
    idle_unload: Annotated[
        float,
        Meta(
            ge=-1,
            description="seconds until an unused model is unloaded, 0 for at once, -1 for never; 5 at most while "
            "memory is scarce",
        ),
    ] = 600.0
    background_battery_percent: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="charge below which, without mains, a recording's further pieces wait up to a minute each, "
            "0 for never",
        ),
    ] = 20.0
    pinned: Annotated[tuple[str, ...], Meta(description="models that are never unloaded")] = ()
    preload: Annotated[tuple[str, ...], Meta(description="models that are loaded at the start")] = ()
    max_running: Annotated[int, Meta(ge=1, description="requests that a model computes at the same time")] = 16
    queue_limit: Annotated[int, Meta(ge=0, description="requests that may wait for a model")] = 256
    patience: Annotated[
        float, Meta(ge=0, description="seconds that a model in use is waited for before it must make room")
    ] = 30.0
    context_limit: Annotated[int, Meta(ge=1, description="tokens of prompt and answer together, at most")] = 32768
    max_connections: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="connections at a time, derived from the files that may be open if unset"),
    ] = None
    max_body_mb: Annotated[float, Meta(gt=0, description="largest body of a request in MB")] = 32.0
    max_upload_mb: Annotated[float, Meta(gt=0, description="largest recording that may be sent in MB")] = 2048.0
    max_recording_hours: Annotated[float, Meta(gt=0, description="longest recording that is transcribed in hours")] = (
        24.0
    )
    transcription_model: Annotated[
        Address, Meta(description="model for recordings on the main port where a request names none of ours")
    ] = "whisper-large-v3-turbo"
    audio_transcription_model: Annotated[Address, Meta(description="the same on the audio port, and for agents")] = (
        "qwen3-asr"
    )
    translation_model: Annotated[
        Address, Meta(description="model for translations into English where a request names none of ours")
    ] = "whisper-large-v3"
    alignment_model: Annotated[Address, Meta(description="model that finds the times of words")] = "qwen3-aligner"
    speech_model: Annotated[Address, Meta(description="model that speaks where a request names none of ours")] = (
        "qwen3-tts"
    )
    imitation_model: Annotated[
        Address, Meta(description="the same for a recorded voice, where that model imitates none")
    ] = "qwen3-tts-base"
    keep_heard: Annotated[
        float,
        Meta(
            ge=0,
            description="seconds for which what was heard in a recording is kept in memory, so that a client that gave "
            "up and asks again has it at once; 0 keeps nothing",
        ),
    ] = 900.0
    file_roots: Annotated[
        tuple[str, ...],
        Meta(
            description="folders with the files that agents on HTTP and SSE may name, beside the server's output folder"
        ),
    ] = ("~/transcribe",)
    script: Annotated[
        str,
        Meta(
            pattern="^(as-is|traditional|simplified)$",
            description="script of Chinese transcripts: as-is, traditional or simplified",
        ),
    ] = "as-is"
    voices_dir: Annotated[
        Address | None,
        Meta(
            description="folder of the voices that are stored for imitation; ~/.mlx-server/voices if unset, in a demo "
            "a folder that ends with it"
        ),
    ] = None
    files_dir: Annotated[
        Address | None,
        Meta(description="folder of the files that agents ask for without naming one, ~/.mlx-server/files if unset"),
    ] = None
    checkpoint_sampling: Annotated[
        bool, Meta(description="where a request doesn't say how to sample, the model's generation_config.json does")
    ] = True
    wired_limit_gb: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="memory that macOS keeps resident for each model at most; unset: as macOS has it"),
    ] = None
    check_speech: Annotated[
        bool,
        Meta(
            description="have speech that may lack words heard again, where a model that transcribes is loaded or fits "
            "beside the others"
        ),
    ] = True
    spare_runner: Annotated[bool, Meta(description="keep a started runner at hand, so that loading is quicker")] = True
    keepalive: Annotated[
        float, Meta(gt=0, description="seconds after which a silent stream gets a comment, so that no proxy gives up")
    ] = 15.0
    stop_grace: Annotated[float, Meta(ge=0, description="seconds that running requests get when the server stops")] = (
        10.0
    )


class SettingsError(Exception):
    """A setting that can't be used; the message names the key, where it stands and what is allowed."""


class Resolved(msgspec.Struct, frozen=True):
    """`settings` in effect; `origins` tells for every field where its value comes from."""

    settings: Settings
    origins: dict[str, str]


class Field(msgspec.Struct, frozen=True):
    """One field of `Settings`, as sources and documentation see it."""

    name: str
    kind: typing.Any
    annotation: typing.Any
    default: typing.Any
    help: str

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return FLAGS.get(self.name) or "--" + self.name.replace("_", "-")

    @property
    def many(self) -> bool:
        return self.kind in (tuple, dict)


def fields() -> tuple[Field, ...]:
    """All fields in the order of their declaration."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    return tuple(
        Field(
            name=info.name,
            kind=_kind(hints[info.name]),
            annotation=hints[info.name],
            default=info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory(),
            help=_help(hints[info.name]),
        )
        for info in msgspec.structs.fields(Settings)
    )


def default_file() -> Path:
    """Where the TOML file is looked for when none is named."""
    return platformdirs.user_config_path("mlx-local") / "config.toml"


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Resolved:
    """Merges all sources; `flags` maps field names to values as `flags_of` returns them.

    `file` None means `default_file()`, which may be absent. Raises SettingsError.
    """
    known = {field.name: field for field in fields()}
    values: dict[str, object] = {}
    origins = dict.fromkeys(known, "default")
    path = default_file() if file is None else file
    for key, value in _read(path, required=file is not None).items():
        values[key] = _checked(_known(key, f"file {path}", known), value, f"file {path}")
        origins[key] = f"file {path}"
    variables = {field.variable: field for field in known.values()}
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            origin = f"environment {variable}"
            field = _known(variable, "environment", variables)
            values[field.name] = _checked(field, _parsed(field, text, text.split(","), origin), origin)
            origins[field.name] = origin
    for key, given in flags.items():
        field = _known(key, "flags", known)
        origin = f"flag {field.flag}"
        value = given
        if isinstance(given, str | list | tuple):
            texts = [given] if isinstance(given, str) else list(given)
            value = _parsed(field, given, [part for text in texts for part in str(text).split(",")], origin)
        values[key] = _checked(field, value, origin)
        origins[key] = origin
    return Resolved(settings=msgspec.convert(values, Settings), origins=origins)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for every field; lists and `alias=model` pairs are given by commas, or by repeating it."""
    group = parser.add_argument_group("settings")
    for field in fields():
        # Text stays text until `load`, so that every source is checked and reported in the same way.
        group.add_argument(
            field.flag,
            dest=field.name,
            action="append" if field.many else "store",
            nargs="?" if field.kind is bool else None,
            const="true" if field.kind is bool else None,
            default=argparse.SUPPRESS,
            metavar=_metavar(field),
            help=f"{field.help} (default: {default_text(field)})".replace("%", "%%"),
        )


def flags_of(namespace: argparse.Namespace) -> dict[str, object]:
    """Only the settings that were given as flags, by field name; values are still text."""
    given = vars(namespace)
    return {field.name: given[field.name] for field in fields() if field.name in given}


def reference() -> str:
    """A Markdown table of all keys."""
    rows = ["| Key | Variable | Flag | Default | Meaning |", "|---|---|---|---|---|"]
    rows.extend(
        f"| `{field.name}` | `{field.variable}` | `{field.flag}` | {default_text(field)} | {field.help} |"
        for field in fields()
    )
    return "\n".join(rows) + "\n"


def default_text(field: Field) -> str:
    """The default for people."""
    if field.default is None:
        return "unset"
    if field.many:
        return ", ".join(field.default) or "none"
    return str(field.default).lower() if field.kind is bool else str(field.default)


def _help(annotation: object) -> str:
    metas = [part for part in get_args(annotation)[1:] if isinstance(part, Meta)]
    return next(meta.description for meta in metas if meta.description)


def _kind(annotation: object) -> object:
    """The plain type behind an annotation: `float` for `Annotated[float, ...] | None`."""
    origin = get_origin(annotation)
    if origin is Annotated or origin is types.UnionType or origin is typing.Union:
        return _kind(get_args(annotation)[0])
    return origin or annotation


def _metavar(field: Field) -> str:
    if field.kind is dict:
        return "ALIAS=MODEL"
    return {int: "N", float: "NUMBER", bool: "true|false"}.get(field.kind, "TEXT")


def _read(path: Path, required: bool) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if required:
            raise SettingsError(f"file {path} does not exist; create it, or leave --config out") from error
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"file {path} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"file {path} is not valid TOML: {error}") from error


def _known(key: str, origin: str, known: Mapping[str, Field]) -> Field:
    if key in known:
        return known[key]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise SettingsError(f"{key} ({origin}) is not a setting; did you mean {near[0]}?")


def _parsed(field: Field, text: object, parts: Sequence[object], origin: str) -> object:
    """The value that text stands for; text that stands for none is left to `_checked`."""
    if field.kind is tuple:
        named = [str(part).strip() for part in parts if str(part).strip()]
        if not named and field.name in SECRETS:
            raise SettingsError(f"{field.name} ({origin}): expected at least one; leave it out where there is none")
        return named
    if field.kind is dict:
        pairs = [str(part).partition("=") for part in parts if str(part).strip()]
        if not all(name.strip() and sign and model.strip() for name, sign, model in pairs):
            raise SettingsError(f"{field.name} ({origin}): expected alias=model pairs")
        return {name.strip(): model.strip() for name, _, model in pairs}
    if field.kind is str:
        return text
    if field.default is None and not str(text).strip():
        return None
    if field.kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(str(text).strip().lower(), text)
    try:
        return field.kind(str(text))
    except ValueError:
        return text


def _checked(field: Field, value: object, origin: str) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{field.name} ({origin}): expected a finite number; it is: {field.help}")
    try:
        converted = msgspec.convert(value, field.annotation)
        return check_items(field.name, converted) if field.many else converted
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{field.name} ({origin}): {_lower(error)}; it is: {field.help}") from error


def _lower(error: Exception) -> str:
    """A sentence (msgspec's never repeats the value, so no secret shows) as a clause."""
    text = str(error)
    return text[:1].lower() + text[1:]
