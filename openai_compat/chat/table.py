"""Every field of OpenAI's reference, in three classes, with the extensions that users of local models know.

A field acts; or it is refused by name, because it would change the answer and isn't built, unless its value is a
neutral one; or it is accepted without effect, because it can't change an answer. Names in no table are told back.
"""

from collections.abc import Iterator, Mapping

import msgspec

from engines.types.errors import UnsupportedField
from engines.types.field_reader import FieldReader
from openai_compat import service_tier


class Table(msgspec.Struct, frozen=True):
    """The fields of one route: what each that acts does, neutral values of what is refused, and reasons."""

    acts: Mapping[str, str]
    refused: Mapping[str, tuple[object, ...]]
    without_effect: Mapping[str, str]

    def check(self, body: FieldReader) -> tuple[str, ...]:
        """The names in no table. Raises `UnsupportedField` for what is refused."""
        for name in sorted(body.names & self.refused.keys()):
            if body.raw(name) not in self.refused[name]:
                raise UnsupportedField(f"{name} isn't supported by this server; leave it out.", param=name)
        return tuple(sorted(body.names - self.acts.keys() - self.refused.keys() - self.without_effect.keys()))


# What objects within a body hold; lists of them are named like one. Other names in them are told back too.
_WITHIN = {
    "stream_options": "include_usage include_obfuscation",
    "response_format": "type json_schema schema",
    "structured_outputs": "json regex choice grammar json_object structural_tag whitespace_pattern "
    "disable_additional_properties disable_any_whitespace disable_fallback backend",
    "response_format.json_schema": "name description schema strict",
    "tools": "type function",
    "tools.function": "name description parameters strict",
    "tool_choice": "type function",
    "tool_choice.function": "name",
    "messages.content": "type text refusal",
    "messages.tool_calls": "id type function index",
    "messages.tool_calls.function": "name arguments",
}
WITHIN: Mapping[str, frozenset[str]] = {place: frozenset(names.split()) for place, names in _WITHIN.items()}


def strays(value: object, place: str = "") -> Iterator[str]:
    """The names in a body's objects, by their places, that nothing knows."""
    if isinstance(value, list):
        for one in value:
            yield from strays(one, place)
    elif isinstance(value, dict):
        known = WITHIN.get(place)
        for name, inner in ((name, inner) for name, inner in value.items() if inner is not None):
            at = f"{place}.{name}" if place else name
            if known is not None and name not in known:
                yield at
            elif at in WITHIN or any(inside.startswith(f"{at}.") for inside in WITHIN):
                yield from strays(inner, at)


_BOTH = {
    "model": "name of a model, as `/v1/models` lists them, in any case",
    "stream": "server-sent events as they are made, instead of one answer",
    "stream_options": "`include_usage`: a last chunk with the usage; `include_obfuscation` has no effect",
    "n": "answers to the same prompt, 1 to 16, each a choice",
    "max_tokens": "the answer's length at most, clamped to the model's room; what is cut says `finish_reason` `length`",
    "temperature": "0 (always the likeliest token) to 2; applied before what narrows the choice down. Where this, or a "
    "field that narrows the choice down or penalises, isn't given, the checkpoint's own value holds "
    "(`default_sampling` of `GET /v1/models/NAME`)",
    "top_k": "only the likeliest so many tokens; 0 or -1: all",
    "min_p": "only tokens at least so likely, as a share of the likeliest one's probability",
    "top_p": "only the likeliest tokens that together have this probability",
    "seed": "the same seed and prompt give the same text, whatever else runs, where `/v1/models` says `reproducible`; "
    "elsewhere a near tie between two tokens may be decided otherwise",
    "presence_penalty": "-2 to 2, subtracted once from every token that the answer has",
    "frequency_penalty": "-2 to 2, subtracted for every time that the answer has a token",
    "repetition_penalty": "above 0, 1 is none; over prompt and answer, positive logits are divided by it",
    "logit_bias": "token ids, each with a number from -100 to 100 that is added to its logit",
    "stop": "a text or up to four at which the answer ends; they are not shown, and not looked for in thoughts",
    "grammar": "a grammar that the answer must follow, in Lark, or in llama.cpp's and XGrammar's EBNF (`root ::= …`)",
    "response_format": "`json_object`, or a `json_schema` that the answer follows, behind its thought",
    "ebnf": "a grammar in EBNF; SGLang's name",
    "regex": "a regular expression that the whole answer must match",
    "choice": "texts, exactly one of which the answer must be",
    "json_schema": "a JSON schema, as an object or as text; SGLang's and llama.cpp's name",
    "structured_outputs": "vLLM's: one of `json`, `regex`, `choice`, `grammar` and `json_object`",
    "guided_json": "as `json_schema`; vLLM's older name",
    "guided_regex": "as `regex`",
    "guided_choice": "as `choice`",
    "guided_grammar": "as `grammar`",
    service_tier.FIELD: f"{service_tier.WHAT}interactive. The answer says which served it",
}
_STRUCTURE_REFUSED: dict[str, tuple[object, ...]] = {"guided_whitespace_pattern": (), "structural_tag": ()}
_BOOKKEEPING = {
    "guided_decoding_backend": "chooses among vLLM's engines for grammars; here there is one",
    "user": "says who asks, for abuse checks",
    "metadata": "notes of the client's, for its own lists",
    "store": "asks a cloud to keep the answer; nothing is kept here",
    "safety_identifier": "says who asks, for abuse checks",
    "prompt_cache_key": "routes to a cloud's caches; here every request shares one",
    "prompt_cache_retention": "how long a cloud keeps its caches; here memory alone decides",
    "prompt_cache_options": "where a cloud's cache breaks; here every block is a place to go on from",
}

CHAT = Table(
    acts=_BOTH
    | {
        "messages": "the conversation: roles `system`, `developer`, `user`, `assistant`, `tool`; text or parts",
        "max_completion_tokens": "as `max_tokens`; the smaller of both acts",
        "logprobs": "`true`: each token of the content with its logprob, before any of the above",
        "top_logprobs": "0 to 20: so many likeliest tokens beside each",
        "tools": "functions that the model may call",
        "tool_choice": "`auto`, `none`, `required` or a function; what must be called follows its schema",
        "parallel_tool_calls": "`false`: one call at most",
        "reasoning_effort": "`none` switches thinking off; `minimal`, `low` and `medium` bound it to 256, 1,024 and "
        "4,096 tokens; `high` and above leave it to the model",
        "reasoning_format": "`none` leaves the thought in the content; else it is `reasoning_content`",
        "enable_thinking": "`false` switches thinking off; also in `chat_template_kwargs`",
        "thinking_budget": "tokens of thought at most; then it is closed and the answer follows",
        "chat_template_kwargs": "variables for the model's chat template; unknown ones are refused",
        "continue_final_message": "goes on with the last message, an assistant's",
        "add_generation_prompt": "the opposite of `continue_final_message`",
    },
    refused={
        "audio": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "verbosity": ("medium",),
        "web_search_options": (),
    }
    | _STRUCTURE_REFUSED,
    without_effect=_BOOKKEEPING,
)

COMPLETIONS = Table(
    acts=_BOTH
    | {
        "prompt": "a text, token ids, or up to 16 of either, each with `n` choices",
        "echo": "gives the prompt back first; with `logprobs`, with those of its tokens",
        "logprobs": "0 to 20: each token's logprob, and so many likeliest tokens beside it",
        "best_of": "the same as `n`: all answers are given",
    },
    refused={"suffix": ("",)} | _STRUCTURE_REFUSED,
    without_effect=_BOOKKEEPING,
)

TOKENIZE = Table(
    acts={
        "prompt": "a text, or",
        **{
            name: CHAT.acts[name]
            for name in (
                "model messages tools tool_choice enable_thinking chat_template_kwargs continue_final_message "
                "add_generation_prompt reasoning_effort"
            ).split()
        },
    },
    refused={},
    without_effect={},
)

DETOKENIZE = Table(acts={"model": _BOTH["model"], "tokens": "token ids"}, refused={}, without_effect={})
