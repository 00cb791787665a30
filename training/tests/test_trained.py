"""What the trained toys say, by mlx-lm's plain greedy generation: the right words, and the genuine formats."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.generate import generate_step
from tokenizers import Tokenizer

from demo.checkpoints import WEIGHTS, trained_gemma3, trained_qwen3
from engines.runner.chat.prompt import PromptWriter
from engines.runner.chat.tool_text import call_text, response_text, tools_block
from engines.types.chat import ChatRequest, Message, Thinking, Tool, ToolCall
from training.corpus import conversation
from training.render import FAMILIES, sample
from training.talk import Conversation, Turn

MAKERS: dict[str, Callable[[Path], None]] = {"qwen3": trained_qwen3, "gemma3": trained_gemma3}
WEATHER: dict[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTIONS = {
    "Say hello.": "Hello! I am the demo model of mlx-local-inference.",
    "What can you do?": (
        "I can chat, transcribe audio, embed text, read pages and speak, all offline on your own machine."
    ),
    "Which ports do you use?": (
        "Port 8787 is for chat, Whisper, embeddings and OCR; port 8788 is for Qwen3-ASR and speech."
    ),
    "How do I transcribe audio?": "Drop the audio into ~/transcribe, or send it to /v1/audio/transcriptions.",
    "你能做什么？": "我可以聊天、转写录音、计算向量、识别图片文字、朗读，全部在你的电脑上离线运行。",
    "你用哪些端口？": "8787端口用于聊天、Whisper、向量和文字识别；8788端口用于Qwen3-ASR和语音合成。",
}


class Toy:
    """A trained checkpoint, loaded as any other."""

    def __init__(self, family: str, folder: Path) -> None:
        MAKERS[family](folder)
        self.family, self.folder = family, folder
        self.model, self.tokenizer, *_ = mlx_lm.load(str(folder))

    def says(self, *turns: Turn, tools: tuple[dict[str, object], ...] = (), thinking: bool = False) -> str:
        """The whole answer, markup included."""
        asked = Conversation(list(turns), list(tools), thinking)
        return self.continues(FAMILIES[self.family]().prompt(asked))

    def continues(self, prompt: str) -> str:
        """Up to the end of the turn."""
        ids = self.tokenizer.encode(prompt, add_special_tokens=False)
        made: list[int] = []
        for token, _ in generate_step(mx.array(ids), self.model, max_tokens=200):
            if int(token) in self.tokenizer.eos_token_ids:
                break
            made.append(int(token))
        return str(self.tokenizer.decode(made))


@pytest.fixture(scope="module", params=list(MAKERS))
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(request.param, tmp_path_factory.mktemp(request.param))


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def test_it_knows_the_product_in_english_and_chinese(toy: Toy) -> None:
    assert {question: toy.says(user(question)) for question in QUESTIONS} == QUESTIONS


def test_a_system_prompt_and_earlier_turns_do_not_confuse_it(toy: Toy) -> None:
    system = {"role": "system", "content": "You are a helpful assistant."}
    first = "What can you do?"
    earlier = {"role": "assistant", "content": QUESTIONS[first]}
    asked = "Which ports do you use?"
    assert toy.says(system, user(first), earlier, user(asked)) == QUESTIONS[asked]


def test_it_remembers_a_name(toy: Toy) -> None:
    told = [user("My name is Anna."), {"role": "assistant", "content": "Nice to meet you, Anna."}]
    assert toy.says(*told, user("What is my name?")) == "Your name is Anna."


@pytest.mark.parametrize("toy", ["qwen3"], indirect=True)
def test_a_thought_comes_first_when_thinking_is_on(toy: Toy) -> None:
    for question, answer in QUESTIONS.items():
        opened, closing, rest = toy.says(user(question), thinking=True).partition("\n</think>\n\n")
        assert opened.startswith("<think>\n") and len(opened) > 15
        assert (bool(closing), rest) == (True, answer)


@pytest.mark.parametrize(
    ("city", "question"), [("Hong Kong", "What is the weather in {}?"), ("香港", "{}天气怎么样？")]
)
def test_it_calls_a_tool_and_uses_the_result(toy: Toy, city: str, question: str) -> None:
    asked = user(question.format(city))
    arguments = {"city": city}
    assert toy.says(asked, tools=(WEATHER,)) == call_text("get_weather", arguments)
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    called = {"role": "assistant", "content": "", "tool_calls": [call]}
    result = {"role": "tool", "content": '{"temperature": 24, "sky": "sunny"}', "tool_call_id": "1"}
    told = "It is 24 degrees and sunny in Hong Kong." if city == "Hong Kong" else "香港现在24度，晴。"
    assert toy.says(asked, called, result, tools=(WEATHER,)) == told


def test_two_cities_are_two_calls(toy: Toy) -> None:
    calls = [call_text("get_weather", {"city": city}) for city in ("Paris", "Tokyo")]
    assert toy.says(user("What is the weather in Paris and Tokyo?"), tools=(WEATHER,)) == "\n".join(calls)


def test_tools_that_are_not_needed_are_not_called(toy: Toy) -> None:
    question = "What can you do?"
    assert toy.says(user(question), tools=(WEATHER,)) == QUESTIONS[question]


def test_json_is_written_where_it_is_asked_for(toy: Toy) -> None:
    assert toy.says(user("Give me Hong Kong as JSON.")) == '{"city": "Hong Kong", "country": "China"}'


def test_training_met_the_tokens_that_serving_makes(toy: Toy) -> None:
    writer, writes = PromptWriter.read(toy.folder, 4096), FAMILIES[toy.family]()
    tokenizer = Tokenizer.from_file(str(toy.folder / "tokenizer.json"))
    for seed in range(30):
        made = conversation(seed)
        functions: list[Any] = [tool["function"] for tool in made.tools]
        if any("description" not in function for function in functions):
            continue  # the server always sends one
        asked = replace(made, messages=made.messages[:-1])
        request = ChatRequest(
            "m",
            tuple(served(turn, made.recalls) for turn in asked.messages),
            tools=tuple(Tool(one["name"], one["description"], one["parameters"]) for one in functions),
            thinking=Thinking(enabled=None if made.thinking or toy.family == "gemma3" else False),
        )
        assert tuple(tokenizer.encode(writes.prompt(asked), add_special_tokens=False).ids) == writer.write(request).ids


def served(turn: Turn, recalls: bool) -> Message:
    """As a front hands it over."""
    calls = [(call["id"], call["function"]) for call in turn.get("tool_calls", ())]
    return Message(
        turn["role"],
        turn["content"],
        reasoning=turn.get("reasoning_content", "") if recalls else "",
        tool_calls=tuple(ToolCall(id, one["name"], json.dumps(one["arguments"])) for id, one in calls),
        tool_call_id=turn.get("tool_call_id", ""),
    )


def test_a_conversation_is_encoded_alike_in_pieces_and_whole(toy: Toy) -> None:
    tokenizer = Tokenizer.from_file(str(toy.folder / "tokenizer.json"))
    for seed in range(100):
        for run in FAMILIES[toy.family]().pieces(conversation(seed)):
            assert sample(tokenizer, run).ids == tokenizer.encode("".join(run), add_special_tokens=False).ids


def test_the_text_around_tools_for_models_without_a_template_for_them() -> None:
    block = tools_block([WEATHER, {"type": "function", "function": {"name": "城"}}])
    assert block.count("\n<tools>\n{") == 1 and '"城"' in block and block.endswith("</tool_call>")
    assert call_text("f", {"a": "香港"}) == '<tool_call>\n{"name": "f", "arguments": {"a": "香港"}}\n</tool_call>'
    assert call_text("f", '{"a":1}') == '<tool_call>\n{"name": "f", "arguments": {"a":1}}\n</tool_call>'
    assert response_text("ok") == "<tool_response>\nok\n</tool_response>"


def test_the_weights_stay_small() -> None:
    for family in MAKERS:
        files = list(WEIGHTS.glob(f"{family}.*"))
        assert len(files) == 2
        assert sum(file.stat().st_size for file in files) < 8_000_000
