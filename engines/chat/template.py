"""A checkpoint's chat template: somebody's program, run in a sandbox. Nothing of MLX or of tokenizers."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engines.errors import CheckpointUnusable, InvalidRequest

Turn = dict[str, Any]

_PROBE = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
# Variables that come from fields of the request: given a second time, one of the two would be ignored.
_FIELDS = frozenset({"messages", "tools", "add_generation_prompt"})


class Template:
    """`variables` are the names that it asks for; `knows_tools` and `alternates` say what it can do and demands."""

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        environment = _environment()
        try:
            self._template = environment.from_string(text, globals=dict(tokens))
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(environment.parse(text))) - tokens.keys()
        except jinja2.TemplateError as error:
            raise CheckpointUnusable(f"The model's chat template is no template: {error}") from error
        self.knows_tools = "tools" in self.variables
        self.alternates = not self._renders(_PROBE)

    @classmethod
    def read(cls, folder: Path) -> "Template":
        """From a checkpoint's folder. Raises `CheckpointUnusable` when there is none."""
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        tokens = {name: _content(settings.get(name)) for name in ("bos_token", "eos_token")}
        return cls(_text(folder, settings), tokens)

    def render(self, turns: list[Turn], variables: Mapping[str, Any]) -> str:
        """Raises `InvalidRequest` for what the template refuses."""
        try:
            return self._template.render(**{**variables, "messages": turns})
        except Exception as error:  # a template is a program, and raises what it likes
            message = f"The model's chat template refuses this conversation: {error}"
            raise InvalidRequest(message, param="messages") from error

    def check_variables(self, given: Mapping[str, Any]) -> None:
        """Raises `InvalidRequest` for variables that would have no effect, or are fields of the request."""
        for name in given:
            if name in _FIELDS:
                raise InvalidRequest(
                    f"{name} is a field of the request, not one of chat_template_kwargs.", param="chat_template_kwargs"
                )
            if name not in self.variables:
                known = ", ".join(sorted(self.variables - _FIELDS | {"enable_thinking"}))
                raise InvalidRequest(
                    f"This model's chat template has no variable {name}. It has: {known}.", param="chat_template_kwargs"
                )

    def _renders(self, turns: list[Turn]) -> bool:
        try:
            self.render(turns, {"add_generation_prompt": True})
        except InvalidRequest:
            return False
        return True


def _environment() -> ImmutableSandboxedEnvironment:
    """As checkpoints' templates expect it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.datetime.now().strftime(layout)


def _content(token: object) -> str:
    if isinstance(token, Mapping):
        return str(token.get("content", ""))
    return token if isinstance(token, str) else ""


def _text(folder: Path, settings: Mapping[str, object]) -> str:
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    beside = folder / "chat_template.json"
    template = (json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else settings).get("chat_template")
    if isinstance(template, list):
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if not isinstance(template, str):
        raise CheckpointUnusable("This checkpoint has no chat template, so it can't chat.")
    return template
