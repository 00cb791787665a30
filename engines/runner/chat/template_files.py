"""Where a checkpoint's folder holds its chat templates, and which of them counts, as transformers has it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.models.model_files import read_json, read_text
from engines.runner.chat.template import Templates

_TOKENS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def read(folder: Path) -> Templates:
    """Raises `CheckpointUnusable` when there is none.

    `chat_template.jinja` and the files of `additional_chat_templates` come before `chat_template.json`, which comes
    before what tokenizer_config.json holds. The last two are one template, or a list of named ones.
    """
    settings = read_json(folder / "tokenizer_config.json")
    tokens = {f"{name}_token": _content(settings.get(f"{name}_token")) for name in _TOKENS}
    needed = {name: text for name, text in tokens.items() if text or name in ("bos_token", "eos_token")}
    return Templates(_texts(folder, settings), needed)


def eos(folder: Path) -> str:
    """The tokenizer's own end of a text; empty if it names none."""
    return _content(read_json(folder / "tokenizer_config.json").get("eos_token"))


def _texts(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").exists():
        files["default"] = folder / "chat_template.jinja"
    texts = {name: read_text(path) or "" for name, path in files.items()}
    if "default" in texts:
        return texts
    held = (_named(one.get("chat_template")) for one in (read_json(folder / "chat_template.json"), settings))
    return next((named for named in held if named), {}) | texts


def _named(given: object) -> dict[str, str]:
    """One template, or several with their names."""
    if isinstance(given, str):
        return {"default": given}
    if isinstance(given, Mapping):
        return {str(name): text for name, text in given.items() if isinstance(text, str)}
    found: dict[str, str] = {}
    for one in given if isinstance(given, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("name"), str) and isinstance(one.get("template"), str):
            found[one["name"]] = one["template"]
    return found


def _content(token: object) -> str:
    if isinstance(token, Mapping):
        return str(token.get("content", ""))
    return token if isinstance(token, str) else ""
