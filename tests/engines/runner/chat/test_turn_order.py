"""Every order of turns that OpenAI takes is rendered by every template, with nothing lost and in its place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.runner.chat.conversation import arranged, definition, turn
from engines.runner.chat.template import Template
from engines.runner.chat.turn_order import PLAINEST, Manners, stands
from engines.types.chat import Message, Tool, ToolCall
from tests.engines.runner.chat import families
from tests.promises import promise

DEMO = Path(__file__).parents[4] / "demo" / "templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TOOL = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
TEMPLATES = {
    "qwen3": Template((DEMO / "qwen3.jinja").read_text(encoding="utf-8"), TOKENS),
    "gemma3": Template((DEMO / "gemma3.jinja").read_text(encoding="utf-8"), TOKENS),
    **{
        name.lower(): Template(getattr(families, name), TOKENS)
        for name in ("CHATML", "GEMMA2", "LLAMA2", "MISTRAL", "LLAMA3", "DROPS_SYSTEM", "QWEN3_CODER")
    },
}
# Where a system text has no place of its own at the top, or moves with the last question.
MOVES_SYSTEM = {"mistral"}
every_template = pytest.mark.parametrize("name", TEMPLATES)


def rendered(name: str, messages: list[Message], tools: tuple[Tool, ...] = (), generate: bool = True) -> str:
    """By the template's manners alone: what the writer does where that fails isn't asked for."""
    template = TEMPLATES[name]
    manners = template.manners(with_tools=bool(tools))
    turns, given_tools = arranged(messages, tools, knows_tools=template.knows_tools, manners=manners)
    variables: dict[str, object] = {"add_generation_prompt": generate}
    if given_tools:
        variables["tools"] = [definition(tool) for tool in given_tools]
    return template.render([turn(message, manners) for message in turns], variables)


def said(*roles: str) -> list[Message]:
    """DeviceLock of these roles, `call` being an assistant's that calls, each with a word of its own."""
    made: list[Message] = []
    for place, role in enumerate(roles):
        word = f"{role}{place}word"
        if role == "call":
            call = ToolCall(f"call_{place}", "weather", f'{{"city": "{word}"}}')
            made.append(Message("assistant", "", tool_calls=(call,)))
        elif role == "tool":
            made.append(Message("tool", word, tool_call_id=f"call_{place - 1}"))
        else:
            made.append(Message(role, word))  # type: ignore[arg-type]
    return made


def check(name: str, text: str, roles: list[str]) -> None:
    words = [f"{role}{place}word" for place, role in enumerate(roles)]
    assert [text.count(word) for word in words] == [1] * len(words), text
    first = 1 if name in MOVES_SYSTEM and roles[0] == "system" else 0
    places = [text.index(word) for word in words]
    assert places[first:] == sorted(places[first:]), text


ORDERS = (
    "system", "user", "system user", "system system user", "user system", "system user system",
    "user system user", "user assistant system user", "user user", "user assistant assistant user", "assistant",
    "assistant user", "system assistant user", "user assistant", "system user assistant user",
    "user call tool", "user call tool user", "user call tool assistant user", "call tool user", "system call tool",
    "user call tool system user", "user call tool call tool", "user assistant call tool",
)  # fmt: skip


@promise("chat:orders:nothing-lost")
@every_template
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tools", [(), (TOOL,)], ids=["", "tools"])
def test_every_order_is_rendered_with_nothing_lost_and_in_place(name: str, order: str, tools: tuple[Tool, ...]) -> None:
    check(name, rendered(name, said(*order.split()), tools), order.split())


turns = st.lists(
    st.sampled_from([("system",), ("user",), ("assistant",), ("call", "tool")]), min_size=1, max_size=7
).map(lambda groups: [role for group in groups for role in group])


@promise("chat:orders:nothing-lost")
@every_template
@settings(max_examples=25, deadline=None)
@given(roles=turns)
def test_any_order_is_rendered_with_nothing_lost_and_in_place(name: str, roles: list[str]) -> None:
    check(name, rendered(name, said(*roles)), roles)


@promise("chat:orders:prefix")
@every_template
@settings(max_examples=25, deadline=None)
@given(roles=turns, more=turns)
def test_a_longer_conversation_begins_as_the_shorter_one_did(name: str, roles: list[str], more: list[str]) -> None:
    """Up to the last text of the shorter one: what closes a turn gives way where another text joins it."""
    if roles[0] == "system" and (name in MOVES_SYSTEM or set(roles) == {"system"}):
        return  # alone it is a user's turn, where a template has no other place for it
    shorter, longer = rendered(name, said(*roles), generate=False), rendered(name, said(*roles, *more), generate=False)
    last = f"{roles[-1]}{len(roles) - 1}word"
    if name == "qwen3":  # thoughts stand in the last answers alone
        shorter, longer = (text.replace("<think>\n\n</think>\n\n", "") for text in (shorter, longer))
    assert longer.startswith(shorter[: shorter.index(last) + len(last)])


@every_template
def test_the_usual_order_is_left_to_the_template(name: str) -> None:
    if name in ("gemma2", "drops_system"):
        return  # they have no place for a system text
    template = TEMPLATES[name]
    messages = said("system", "user", "assistant", "user")
    plain = [{"role": message.role, "content": message.content} for message in messages]
    assert rendered(name, messages) == template.render(plain, {"add_generation_prompt": True})


def test_neighbours_become_one_turn_where_the_template_demands_it() -> None:
    assert rendered("gemma2", said("user", "user", "system")).count("<start_of_turn>user") == 1
    assert rendered("chatml", said("user", "user", "system")).count("<|im_start|>user") == 2


@every_template
def test_several_calls_with_a_text_and_their_results_are_all_there(name: str) -> None:
    calls = (ToolCall("a", "weather", '{"city": "Aaa"}'), ToolCall("b", "weather", '{"city": "Bbb"}'))
    messages = [
        Message("user", "Hot?"),
        Message("assistant", "Let me see.", tool_calls=calls),
        Message("tool", "24deg", tool_call_id="a"),
        Message("tool", "30deg", tool_call_id="b"),
        Message("user", "And?"),
    ]
    text = rendered(name, messages, (TOOL,))
    for word in ("Hot?", "Let me see.", "Aaa", "Bbb", "24deg", "30deg", "And?"):
        assert text.count(word) == 1, text
    assert text.index("24deg") < text.index("30deg") < text.index("And?")


@promise("chat:calls:history")
@every_template
@pytest.mark.parametrize("arguments", ['{"city": "To', "[1, 2]", '"x"', "7", "{'city': 'Paris'}", "\\ud83d {"])
def test_arguments_that_are_no_object_are_rendered_as_their_text(name: str, arguments: str) -> None:
    messages = said("user", "call", "tool", "user")
    messages[1] = Message("assistant", "", tool_calls=(ToolCall("call_1", "weather", arguments),))
    text = rendered(name, messages, (TOOL,))
    assert arguments in text or arguments.replace("\\", "\\\\").replace('"', '\\"') in text
    assert "tool2word" in text


@promise("chat:calls:history")
@every_template
@pytest.mark.parametrize("arguments", ["", "{}"])
def test_empty_arguments_are_an_empty_object(name: str, arguments: str) -> None:
    messages = said("user", "call", "tool")
    messages[1] = Message("assistant", "", tool_calls=(ToolCall("call_1", "weather", arguments),))
    assert "weather" in rendered(name, messages, (TOOL,))


def test_a_template_that_writes_objects_as_python_does_is_given_their_json() -> None:
    text = (
        "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}{% endfor %}"
    )
    template = Template(text + "{% endfor %}{{ tools | tojson }}", TOKENS)
    assert template.manners(with_tools=True).json_arguments


def test_what_stands_is_looked_for_in_order() -> None:
    turns = [Message("system", "s"), Message("user", " a "), Message("assistant", "b"), Message("user", "a")]
    assert stands(turns, "s a b a") and stands(turns, "a b s a")
    assert not stands(turns, "s a b") and not stands(turns, "s b a a")


def test_the_plainest_order_is_turns_of_two() -> None:
    messages, _ = arranged(
        said("system", "call", "tool", "assistant", "assistant"), (), knows_tools=False, manners=PLAINEST
    )
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant"]


def test_a_template_without_end_has_the_plainest_manners() -> None:
    assert isinstance(TEMPLATES["mistral"].manners(with_tools=True), Manners)
    assert TEMPLATES["mistral"].manners(with_tools=True).short_ids
