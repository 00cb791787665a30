"""Every field of OpenAI's reference, in three classes, with the extensions that users of local models know.

A field acts; or it is refused by name, because it would change the answer and isn't built, unless its value is a
neutral one; or it is accepted without effect, because it can't change an answer. Names in no table are told back.
"""

from collections.abc import Mapping

import msgspec

from engines.errors import UnsupportedField
from openai_compat.reading import Reader


class Table(msgspec.Struct, frozen=True):
    """The fields of one route. `refused` has the neutral values, `without_effect` the reasons."""

    acts: frozenset[str]
    refused: Mapping[str, tuple[object, ...]]
    without_effect: Mapping[str, str]

    def check(self, body: Reader) -> tuple[str, ...]:
        """The names in no table. Raises `UnsupportedField` for what is refused."""
        for name in sorted(body.names & self.refused.keys()):
            if body.raw(name) not in self.refused[name]:
                raise UnsupportedField(f"{name} isn't supported by this server; leave it out.", param=name)
        return tuple(sorted(body.names - self.acts - self.refused.keys() - self.without_effect.keys()))


_SAMPLING = frozenset(
    "model stream stream_options n temperature top_p top_k min_p max_tokens stop seed presence_penalty "
    "frequency_penalty repetition_penalty logit_bias logprobs grammar regex choice".split()
)
_BOOKKEEPING = {
    "user": "says who asks, for abuse checks",
    "metadata": "notes of the client's, for its own lists",
    "store": "asks a cloud to keep the answer; nothing is kept here",
    "service_tier": "chooses a cloud's price class",
    "safety_identifier": "says who asks, for abuse checks",
    "prompt_cache_key": "routes to a cloud's caches; here every request shares one",
    "prompt_cache_retention": "how long a cloud keeps its caches; here memory alone decides",
    "prompt_cache_options": "where a cloud's cache breaks; here every block is a place to go on from",
}

CHAT = Table(
    acts=_SAMPLING
    | frozenset(
        "messages max_completion_tokens top_logprobs response_format tools tool_choice parallel_tool_calls "
        "reasoning_effort reasoning_format enable_thinking thinking_budget chat_template_kwargs "
        "continue_final_message add_generation_prompt".split()
    ),
    refused={
        "audio": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "verbosity": ("medium",),
        "web_search_options": (),
    },
    without_effect=_BOOKKEEPING,
)

COMPLETIONS = Table(
    acts=_SAMPLING | frozenset(("prompt", "echo", "best_of")),
    refused={"suffix": ("",)},
    without_effect=_BOOKKEEPING,
)

TOKENIZE = Table(
    acts=frozenset(
        "model prompt messages tools tool_choice enable_thinking chat_template_kwargs continue_final_message "
        "add_generation_prompt reasoning_effort".split()
    ),
    refused={},
    without_effect={},
)

DETOKENIZE = Table(acts=frozenset(("model", "tokens")), refused={}, without_effect={})
