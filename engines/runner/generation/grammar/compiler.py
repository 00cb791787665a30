"""What an answer must be → which tokens may come next. Over llguidance; runs beside the step thread; nothing of MLX."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer

from engines.runner.generation.grammar.constraints import (
    Wanted,
    adjusted,
    constraint_refused,
    schemas_of,
    wanted_answer,
    wanted_call_body,
    written,
)
from engines.runner.generation.grammar.markups import Markup
from engines.runner.generation.grammar.schemas import json_text
from engines.runner.generation.grammar.validation import reason_of, tried, weakened
from engines.runner.tokenization.detokenize import TokenTable
from engines.types.chat import Constraint, Tool, ToolChoice
from engines.types.common import Adjusted, Json
from engines.types.errors import InvalidRequest

CACHED = 32
# llguidance recurses along chains of rules and references; what is within our limits never uses up 512 MiB (virtual).
STACK = 512 * 1024 * 1024
MAX_SECONDS_WEAKENING = 3  # then hints are left out whole

T = TypeVar("T")
Mask = npt.NDArray[np.uint32]


def allowed(mask: Mask, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The logits [vocabulary], -inf where `mask` has no bit."""
    bits = np.unpackbits(mask.view(np.uint8), count=len(logits), bitorder="little")
    return np.where(bits.view(np.bool_), logits, np.float32(-np.inf))


class Grammar:
    """One sequence's place in what its answer must be. Not to be shared; cheap to copy.

    An `open_ended` one is over after its text: then anything may follow. `adjusted` is what it leaves
    out of hints.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        tokens: Mask,
        eos: frozenset[int],
        at: str,
        open_ended: bool,
        adjusted: tuple[Adjusted, ...] = (),
    ) -> None:
        self.adjusted = adjusted
        self._matcher = matcher
        self._tokens = tokens
        self._eos = eos
        self._at = at
        self._open_ended = open_ended
        self._ended = False

    def copy(self) -> "Grammar":
        copy = Grammar(self._matcher.deep_copy(), self._tokens, self._eos, self._at, self._open_ended, self.adjusted)
        copy._ended = self._ended
        return copy

    @property
    def finished(self) -> bool:
        """Nothing but the end may follow."""
        if self._ended or (self._matcher.is_stopped() and not self._open_ended):
            return True
        # Of a model that has no token for the end: it is over where nothing else may come.
        return not self._eos and not self._free and self._matcher.is_accepting() and not self.mask().any()

    def mask(self) -> Mask:
        """One bit per token id: what may come next. The tokens of the end are in it when the answer is complete.

        Raises `InvalidRequest` if the grammar turns out too complex to follow any further.
        """
        if self._free:
            return self._tokens.copy()
        if self._ended:
            return _bits(self._eos, len(self._tokens) * 32)
        # It has a word too many where the vocabulary is a multiple of 32.
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32, len(self._tokens)) & self._tokens
        if self._matcher.is_error():
            raise InvalidRequest(
                f"The grammar became too complex to follow: {reason_of(self._matcher.get_error())}. Make it simpler.",
                param=self._at,
            )
        return mask

    def accept(self, token: int) -> bool:
        """Goes on by a token. False, and nothing changes, if it may not come here."""
        if self._ended:
            return token in self._eos
        if token in self._eos:
            self._ended = self._free or self._matcher.is_accepting()
            return self._ended
        if self._free:
            return token >> 5 < len(self._tokens) and bool(self._tokens[token >> 5] >> np.uint32(token & 31) & 1)
        return self._matcher.try_consume_tokens([token]) == 1

    def forced(self, mask: Mask, most: int) -> tuple[int, ...]:
        """At most `most` tokens that must come next, as far as there is no choice. `mask` is what `mask` gives here."""
        tokens: list[int] = []
        token = _only(mask)
        ahead = self if token is None else self.copy()
        try:
            while token is not None and len(tokens) < most and ahead.accept(token):
                tokens.append(token)
                token = _only(ahead.mask()) if len(tokens) < most else None
        except InvalidRequest:
            pass  # it is told where the sequence gets there
        return tuple(tokens)

    @property
    def _free(self) -> bool:
        return self._open_ended and not self._ended and self._matcher.is_stopped()


def _only(mask: Mask) -> int | None:
    """The one token that a mask allows."""
    words = np.flatnonzero(mask)
    if len(words) != 1 or (bits := int(mask[words[0]])).bit_count() != 1:
        return None
    return int(words[0]) * 32 + bits.bit_length() - 1


def _bits(ids: Iterable[int], width: int) -> Mask:
    bits = np.zeros(-(-width // 32) * 32, np.bool_)
    bits[[id for id in ids if id < width]] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


class GrammarCompiler:
    """One checkpoint's tokenizer, ready to compile grammars; made ready at the first use. For one thread.

    `vocab_size` is the width of the model's logits. `marks` are the added tokens that structure an answer, by their
    text: grammars may name them, and what is text in a grammar is never made of them. `markup` is how the model writes
    calls. Raises `InvalidRequest`, with the place and the reason, for what can't be enforced.
    """

    def __init__(
        self,
        tokenizer_json: str,
        vocab_size: int,
        eos: Sequence[int],
        marks: Mapping[str, int],
        markup: Markup = "hermes",
    ) -> None:
        self._tokenizer_json = tokenizer_json
        self._vocab_size = vocab_size
        self._eos = tuple(eos)
        self._marks = dict(marks)
        self._markup = markup
        self._loaded: tuple[LLTokenizer, Mask] | None = None
        self._fresh: OrderedDict[bytes, Grammar] = OrderedDict()

    def answer(self, constraint: Constraint | None, tools: Sequence[Tool], choice: ToolChoice) -> Grammar | None:
        """What the answer, after a thought if there is one, must be; None if it is free.

        Calls that are required follow their schemas, all of them. With `auto`, calls compete with a constrained
        document only; then those of strict tools follow their schemas, others are any object.
        """
        return self._cached(wanted_answer(constraint, tools, choice))

    def call_body(self, tools: Sequence[Tool], choice: ToolChoice) -> Grammar | None:
        """With `auto` and a strict tool: what follows a call's mark, up to its end, then anything; else None."""
        return self._cached(wanted_call_body(tools, choice))

    def _cached(self, wanted: Wanted | None) -> Grammar | None:
        if wanted is None:
            return None
        wanted = msgspec.structs.replace(wanted, markup=self._markup)
        try:
            digest = hashlib.sha256(msgspec.json.encode(wanted)).digest()
        except (RecursionError, OverflowError, UnicodeEncodeError) as error:
            fault = "is nested too deeply, or holds an integer beyond 64 bits or half a character"
            raise constraint_refused(wanted.at, fault) from error
        if digest not in self._fresh:
            self._fresh[digest] = self._compile(wanted)
            if len(self._fresh) > CACHED:
                self._fresh.popitem(last=False)
        self._fresh.move_to_end(digest)
        return self._fresh[digest].copy()

    def _compile(self, wanted: Wanted) -> Grammar:
        """What can't be enforced of a hint is left out, one thing after the other, as long as it takes little time."""
        schemas = schemas_of(wanted)
        tokenizer, tokens = self._load()
        until = time.monotonic() + MAX_SECONDS_WEAKENING
        while True:
            parts = written(wanted, schemas, self._marks)
            found = _on_deep_stack(partial(tried, tokenizer, parts, schemas))
            if not isinstance(found, list):
                end = frozenset(self._eos)
                return Grammar(found, tokens, end, wanted.at, wanted.body_only, adjusted(schemas))
            if time.monotonic() > until:
                found = [one.as_a_whole for one in found]
            schemas = _on_deep_stack(partial(weakened, tokenizer, schemas, found, wanted.at))

    def _load(self) -> tuple[LLTokenizer, Mask]:
        if self._loaded is None:
            data = json.loads(self._tokenizer_json)
            for token in data.get("added_tokens", ()):
                token["special"] = token["special"] or token["content"] in self._marks
            table = TokenTable.from_tokenizer_json(data)
            ids = [id for id, valid in enumerate(table.valid) if valid]
            tokenizer = _tokenizer(data, table, self._vocab_size, list(self._eos))
            self._loaded = tokenizer, _bits(ids, self._vocab_size)
            self._tokenizer_json = ""
        return self._loaded


class _Foreign:
    """What llguidance asks of a tokenizer whose decoder it doesn't know (Metaspace, WordPiece …)."""

    bos_token_id = None

    def __init__(self, data: Json, table: TokenTable, eos: Sequence[int]) -> None:
        self._tokenizer = Tokenizer.from_str(json_text(data))
        self.eos_token_id = eos[0]
        self.tokens = [table.bytes_of(id) for id in range(table.size)]
        self.special_token_ids = [token["id"] for token in data.get("added_tokens", ()) if token["special"]]

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def _tokenizer(data: Json, table: TokenTable, width: int, eos: list[int]) -> LLTokenizer:
    if not eos:  # llguidance wants one: an id behind all others, which no mask has
        eos, width = [table.size], max(width, table.size + 1)
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        nothing = {"id": table.size, "content": "<|no end|>", "special": True, **flags}
        data = {**data, "added_tokens": [*data.get("added_tokens", ()), nothing]}
    try:
        return LLTokenizer(json_text(data), n_vocab=width, eos_token=eos)
    except ValueError:
        return LLTokenizer(TokenizerWrapper(_Foreign(data, table, eos)), n_vocab=width, eos_token=eos)


def _on_deep_stack(work: Callable[[], T]) -> T:
    """Runs `work` where recursion ends in no crash, and waits for it."""
    with ThreadPoolExecutor(1, "grammar") as thread:
        usual = threading.stack_size(STACK)
        try:
            done = thread.submit(work)  # starts the thread
        finally:
            threading.stack_size(usual)
        return done.result()
