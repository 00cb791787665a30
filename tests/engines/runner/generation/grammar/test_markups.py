"""Required calls are written in the model's own markup, and its parser reads what the grammar allows."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from demo.checkpoints import make_qwen3
from engines.runner.chat.call_formats import by_markup
from engines.runner.chat.reply import ReplyParser
from engines.runner.generation.grammar.compiler import Grammar, GrammarCompiler
from engines.runner.generation.grammar.markups import Markup
from engines.types.chat import Tool, ToolChoice
from engines.types.errors import InvalidRequest
from tests.promises import promise

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "unit": {"enum": ["C", "F"]},
    "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
}
LOOK = Tool(
    "look",
    parameters={
        "type": "object",
        "properties": PROPERTIES,
        "required": ["city"],
        "$defs": {"tag": {"type": "string"}},
    },
    strict=True,
)
F = Tool("f", parameters={"type": "object", "properties": {}})
FREE = Tool("free", parameters={"type": "object", "additionalProperties": True})
REQUIRED = ToolChoice("required")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("qwen3")
    make_qwen3(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def end(tokenizer: Tokenizer) -> int:
    id = tokenizer.token_to_id("<|im_end|>")
    assert id is not None
    return int(id)


def compiler(tokenizer: Tokenizer, markup: Markup) -> GrammarCompiler:
    marks = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items()}
    eos = [end(tokenizer)]
    return GrammarCompiler(tokenizer.to_str(), tokenizer.get_vocab_size(), eos, marks, markup)


def allows(tokenizer: Tokenizer, grammar: Grammar | None, text: str) -> bool:
    """Whether the text is all that the grammar wants."""
    assert grammar is not None
    grammar = grammar.copy()
    if not all(grammar.accept(id) for id in tokenizer.encode(text, add_special_tokens=False).ids):
        return False
    return grammar.accept(end(tokenizer))


def value(text: str) -> str:
    return f"{text}\n</parameter>\n"


CITY = "<parameter=city>\n"
XML = "<tool_call>\n<function=look>\n{}</function>\n</tool_call>"
PARIS = {"city": "Paris"}
JSON = '{"name": "look", "arguments": {"city": "Paris"}}'
RIGHT: list[tuple[Markup, str, list[tuple[str, Any]]]] = [
    ("hermes", f"<tool_call>\n{JSON}\n</tool_call>", [("look", PARIS)]),
    ("qwen3_coder", XML.format(CITY + value("Paris")), [("look", PARIS)]),
    ("qwen3_coder", XML.format(CITY + value("a <b>\n</c>")), [("look", {"city": "a <b>\n</c>"})]),
    ("qwen3_coder", XML.format(
        CITY + value("5") + "<parameter=days>\n" + value("3") + "<parameter=unit>\n" + value("C")
        + "<parameter=tags>\n" + value('["a", "b"]')),
     [("look", {"city": "5", "days": 3, "unit": "C", "tags": ["a", "b"]})]),
    ("qwen3_coder", "<tool_call>\n<function=f>\n</function>\n</tool_call>", [("f", {})]),
    ("qwen3_coder", "<tool_call>\n<function=free>\n<parameter=x>\n" + value("1") + "</function>\n</tool_call>",
     [("free", {"x": "1"})]),
    ("qwen3_coder", XML.format(CITY + value("Paris")) + "\n<tool_call>\n<function=f>\n</function>\n</tool_call>",
     [("look", PARIS), ("f", {})]),
    ("mistral", f"[TOOL_CALLS] [{JSON}]", [("look", PARIS)]),
    ("mistral", f'[TOOL_CALLS][{JSON}, {{"name": "f", "arguments": {{}}}}]', [("look", PARIS), ("f", {})]),
    ("mistral_args", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}', [("look", PARIS)]),
    ("mistral_args", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}[TOOL_CALLS]f[ARGS]{}', [("look", PARIS), ("f", {})]),
    ("mistral_id", '[TOOL_CALLS]look[CALL_ID]abcdefghi[ARGS]{"city": "Paris"}', [("look", PARIS)]),
]  # fmt: skip


@promise("chat:calls:families")
@pytest.mark.parametrize(("markup", "text", "calls"), RIGHT)
def test_a_required_call_is_in_the_models_markup(
    tokenizer: Tokenizer, markup: Markup, text: str, calls: list[tuple[str, Any]]
) -> None:
    tools = (LOOK, F, FREE)
    assert allows(tokenizer, compiler(tokenizer, markup).answer(None, tools, REQUIRED), text)
    schemas = {tool.name: tool.parameters for tool in tools}
    parser = ReplyParser(schemas, thinking="absent", format=by_markup(markup))
    read: dict[int, list[str]] = {}
    for delta in parser.feed(text):
        for call in delta.calls:
            read.setdefault(call.index, [call.name, ""])[1] += call.arguments
    parser.finish(cut=False)
    assert [(name, json.loads(arguments)) for name, arguments in read.values()] == calls


WRONG: list[tuple[Markup, str]] = [
    ("qwen3_coder", f"<tool_call>\n{JSON}\n</tool_call>"),
    ("qwen3_coder", XML.format("")),
    ("qwen3_coder", XML.format(CITY + value("a") + "<parameter=days>\n" + value("many"))),
    ("qwen3_coder", XML.format(CITY + value("a") + "<parameter=unit>\n" + value("K"))),
    ("qwen3_coder", XML.format(CITY + value("a") + "<parameter=other>\n" + value("K"))),
    ("qwen3_coder", "<tool_call>\n<function=g>\n</function>\n</tool_call>"),
    ("mistral", f"<tool_call>\n{JSON}\n</tool_call>"),
    ("mistral", "[TOOL_CALLS] []"),
    ("mistral_args", '[TOOL_CALLS]look[ARGS]{"city": 1}'),
    ("mistral_id", '[TOOL_CALLS]look[ARGS]{"city": "Paris"}'),
]


@pytest.mark.parametrize(("markup", "text"), WRONG)
def test_nothing_else_is_allowed(tokenizer: Tokenizer, markup: Markup, text: str) -> None:
    assert not allows(tokenizer, compiler(tokenizer, markup).answer(None, (LOOK, F), REQUIRED), text)


@pytest.mark.parametrize(("markup", "text", "calls"), RIGHT)
def test_a_named_tool_is_called_once(
    tokenizer: Tokenizer, markup: Markup, text: str, calls: list[tuple[str, Any]]
) -> None:
    grammar = compiler(tokenizer, markup).answer(None, (LOOK, F), ToolChoice("named", "look", parallel=False))
    assert allows(tokenizer, grammar, text) == (len(calls) == 1 and calls[0][0] == "look")


@pytest.mark.parametrize(("markup", "text"), [(row[0], row[1]) for row in RIGHT if row[2] == [("look", PARIS)]])
def test_a_strict_call_that_nobody_asked_for_follows_its_schema(
    tokenizer: Tokenizer, markup: Markup, text: str
) -> None:
    opening = by_markup(markup).openings[0]
    body = compiler(tokenizer, markup).call_body((LOOK, F), ToolChoice())
    assert allows(tokenizer, body, text.removeprefix(opening))
    assert not allows(tokenizer, body, text.removeprefix(opening).replace("city", "town"))


def test_what_a_markup_cannot_bound_is_refused_of_a_strict_tool_alone(tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^x$"}}}
    for strict in (True, False):
        tool = Tool("g", parameters=schema, strict=strict)
        if strict:
            with pytest.raises(InvalidRequest, match="/properties/a/pattern"):
                compiler(tokenizer, "qwen3_coder").answer(None, (tool,), REQUIRED)
        else:
            assert compiler(tokenizer, "qwen3_coder").answer(None, (tool,), REQUIRED) is not None
