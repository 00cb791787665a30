"""A checkpoint's chat templates: somebody's programs, run in a sandbox. Nothing of MLX or of tokenizers."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.meta
from jinja2 import nodes

from engines.runner.chat import call_formats
from engines.runner.chat.conversation import Turn, definition, turn
from engines.runner.chat.environment import MAX_CHARACTERS, TemplateEnvironment
from engines.runner.chat.turn_order import PLAINEST, Manners, probed
from engines.runner.patience import Abandoned, OutOfTime, Patience
from engines.types.chat import Message, Tool
from engines.types.errors import CheckpointUnusable, InvalidRequest

RENDER_SECONDS = 5.0  # most conversations take a thousandth of a second
PROBE_SECONDS = 5.0  # for all conversations that a template is tried with
# Variables that come from fields of the request: given a second time, one of the two would be ignored.
_FIELDS = frozenset({"messages", "tools", "add_generation_prompt"})
_PROBE_TOOL = definition(Tool("probe", "", {"type": "object", "properties": {"where": {"type": "string"}}}))
# What a template asks of a text, to find markup in it.
_SEARCHES = frozenset(
    "split rsplit partition rpartition startswith endswith replace removeprefix removesuffix find".split()
)


class Template:
    """`variables` are the names that it asks for; `searched` the words that it looks for in messages.

    `knows_tools` says whether it shows tools in its own way, `format` how its model writes calls.
    """

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        self._clock = _Clock()
        environment = TemplateEnvironment(self._clock.tick)
        try:
            self._template = environment.from_string(text, globals=dict(tokens))
            tree = environment.parse(text)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree)) - tokens.keys()
        except (jinja2.TemplateError, RecursionError) as error:
            raise CheckpointUnusable(f"The model's chat template is no template: {error}") from error
        self.searched = frozenset(_searched(tree))
        self.knows_tools = "tools" in self.variables
        self.format = call_formats.of_template(text, knows_tools=self.knows_tools)
        self._manners = self._probed()

    def manners(self, *, with_tools: bool) -> Manners:
        """Which conversations it renders with nothing lost; tools may change that."""
        return self._manners[with_tools and self.knows_tools]

    def render(self, turns: list[Turn], variables: Mapping[str, Any], patience: Patience | None = None) -> str:
        """Raises `InvalidRequest` for what the template refuses, and where it takes too long; `Abandoned`."""
        given = {"tools": None, "documents": None, **variables, "messages": turns}
        try:
            return self._clock.run(self._template.generate(**given), (patience or Patience()).at_most(RENDER_SECONDS))
        except Abandoned:
            raise
        except OutOfTime as error:
            message = f"The model's chat template has no end for this conversation within {RENDER_SECONDS:.0f} seconds."
            raise InvalidRequest(message, param="messages") from error
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

    def _probed(self) -> Mapping[bool, Manners]:
        """Without tools and with them. A template that has no end is refused when it is used, not here."""
        patience = Patience(seconds=PROBE_SECONDS)
        try:
            return {tools: self._tried(tools, patience) for tools in (False, True)}
        except OutOfTime:
            return {False: PLAINEST, True: PLAINEST}

    def _tried(self, with_tools: bool, patience: Patience) -> Manners:
        def shown(messages: Sequence[Message], manners: Manners) -> str | None:
            given: dict[str, Any] = {"add_generation_prompt": True, "documents": None}
            given["tools"] = [_PROBE_TOOL] if with_tools and self.knows_tools else None
            turns = [turn(message, manners) for message in messages]
            try:
                return self._clock.run(self._template.generate(**given, messages=turns), patience)
            except OutOfTime:
                raise
            except Exception:  # it refuses
                return None

        return probed(shown)


class Templates:
    """A checkpoint's templates by name. With tools the one called `tool_use` is taken, where there is one."""

    def __init__(self, texts: Mapping[str, str], tokens: Mapping[str, str]) -> None:
        if "default" not in texts:
            known = f" It has others: {', '.join(sorted(texts))}." if texts else ""
            raise CheckpointUnusable(f"This checkpoint has no chat template, so it can't chat.{known}")
        self._default = Template(texts["default"], tokens)
        self._for_tools = Template(texts["tool_use"], tokens) if "tool_use" in texts else self._default

    def chosen(self, *, with_tools: bool) -> Template:
        return self._for_tools if with_tools else self._default

    @property
    def searched(self) -> frozenset[str]:
        """The words that they look for in messages."""
        return self._default.searched | self._for_tools.searched


class _Clock(threading.local):
    """The patience of the rendering that a thread is at."""

    def __init__(self) -> None:
        self._patience = Patience()
        self._ticks = 0

    def run(self, parts: Iterable[str], patience: Patience) -> str:
        """The parts as one text. Raises `OutOfTime`, `Abandoned`, or whatever the template raises."""
        self._patience = patience
        text: list[str] = []
        size = 0
        for part in parts:
            self.tick()
            text.append(part)
            size += len(part)
            if size > MAX_CHARACTERS:
                raise jinja2.TemplateError("it makes a text that has no end")
        return "".join(text)

    def tick(self) -> None:
        self._ticks += 1
        if self._ticks % 64 == 0:
            self._patience.check()


def _searched(tree: nodes.Template) -> Iterator[str]:
    """The texts that a template compares parts of messages with, as far as they are markup."""
    for compare in tree.find_all(nodes.Compare):
        if any(operand.op in ("in", "notin") for operand in compare.ops):
            yield from _markup([compare.expr])
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _SEARCHES:
            yield from _markup(call.args)
    for used in tree.find_all(nodes.Filter):
        if used.name == "replace":
            yield from _markup(used.args)


def _markup(found: Iterable[nodes.Node]) -> Iterator[str]:
    """Of constant texts those that are no plain words: with a bracket, and a character beside it."""
    for node in found:
        if isinstance(node, nodes.Const) and isinstance(node.value, str):
            word = node.value.strip()
            if len(word) > 2 and word[0] in "<[{" and not word.isspace():
                yield word
