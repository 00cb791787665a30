"""What Whisper's tokens are: text first, then the marks that steer it, then times. Nothing of MLX."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from engines.models.model_files import MOST_TOKENIZER_BYTES, read_json
from engines.models.registry import WHISPER_MULTILINGUAL
from engines.runner.tokenization.detokenize import TokenTable
from engines.runner.whisper import openai_vocabulary
from engines.types.errors import CheckpointUnusable

STEPS_PER_SECOND = 50  # a time is a multiple of 20 ms
TIMES = 30 * STEPS_PER_SECOND + 1

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
# Signs that transcripts have instead of speech, for sounds and notes: not to be written.
_SIGNS = (
    '" # ( ) * + / : ; < = > @ [ \\ ] ^ _ ` { | } ~ 「 」 『 』 << >> <<< >>> -- --- -( -[ (\' (" (( )) ((( ))) [[ ]]'
)
_SIGNS += " {{ }} ♪♪ ♪♪♪"
_NOTES = "♩ ♪ ♫ ♬ ♭ ♮ ♯"


class ControlTokens(msgspec.Struct, frozen=True):
    """The ids of control tokens. Text has the ids below `end`; times those from `first_time` on, `times` of them."""

    end: int
    start: int
    previous: int
    transcribe: int
    translate: int
    no_speech: int | None
    no_times: int
    first_time: int
    times: int

    def is_time(self, token: int) -> bool:
        return token >= self.first_time


class Vocabulary:
    """A checkpoint's tokens. `languages` is code → id, empty when the model knows English alone."""

    def __init__(
        self, marks: ControlTokens, languages: Mapping[str, int], tokenizer: Tokenizer, table: TokenTable
    ) -> None:
        self.marks = marks
        self.languages = dict(languages)
        self.table = table
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, folder: Path, size: int) -> "Vocabulary":
        """From tokenizer.json, or else OpenAI's own, for a model of so many token ids.

        Raises `CheckpointUnusable` if it isn't Whisper's.
        """
        data = read_json(folder / "tokenizer.json", MOST_TOKENIZER_BYTES)
        if not data and size not in openai_vocabulary.SIZES:
            raise CheckpointUnusable(
                f"{folder} has no tokenizer.json, and {size} tokens are no vocabulary of OpenAI's. Fetch a repository "
                "that has one, such as mlx-community/whisper-large-v3-turbo-asr-fp16."
            )
        data = data or openai_vocabulary.tokenizer_json(size)
        table = TokenTable.from_tokenizer_json(data)
        ids = {**data["model"]["vocab"], **{token["content"]: token["id"] for token in data.get("added_tokens", [])}}
        marks = _marks(ids, size)
        found = {match[1]: id for mark, id in ids.items() if id > marks.start and (match := _LANGUAGE.fullmatch(mark))}
        languages = dict(sorted(found.items(), key=lambda pair: pair[1])) if size >= WHISPER_MULTILINGUAL else {}
        # Without its control tokens, so that no text of users' becomes one.
        plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        plain.no_padding()
        plain.no_truncation()
        return cls(marks, languages, plain, table)

    def encode(self, text: str) -> tuple[int, ...]:
        """All of it as text, whatever it looks like."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def speakable(self) -> list[bool]:
        """For the ids of text, whether they may be said: those without a token and signs that aren't speech may not."""
        allowed = [*self.table.valid, *[False] * self.marks.end][: self.marks.end]
        for id in self._unspoken():
            if id < len(allowed):
                allowed[id] = False
        return allowed

    def _unspoken(self) -> set[int]:
        ids = {self.encode(" -")[0], self.encode(" '")[0]}  # within words they are allowed, not before
        for sign in (*_SIGNS.split(), *_NOTES.split()):
            for tokens in (self.encode(sign), self.encode(f" {sign}")):
                if tokens and (len(tokens) == 1 or sign in _NOTES):
                    ids.add(tokens[0])
        return ids


def _marks(ids: Mapping[str, int], size: int) -> ControlTokens:
    def id_of(mark: str) -> int:
        id = ids.get(f"<|{mark}|>")
        if id is None or id >= size:
            raise CheckpointUnusable(f"tokenizer.json has no token <|{mark}|> that the model knows. Fetch it again.")
        return id

    no_times = id_of("notimestamps")
    first = ids.get("<|0.00|>", no_times + 1)  # older files don't name the times
    no_speech = ids.get("<|nospeech|>", ids.get("<|nocaptions|>"))
    marks = ControlTokens(
        end=id_of("endoftext"),
        start=id_of("startoftranscript"),
        previous=id_of("startofprev"),
        transcribe=id_of("transcribe"),
        translate=id_of("translate"),
        no_speech=no_speech if no_speech is not None and no_speech < size else None,
        no_times=no_times,
        first_time=first,
        times=TIMES,
    )
    in_order = marks.end < marks.start < no_times < first
    if not in_order or first + TIMES > size or ids.get("<|30.00|>", first + TIMES - 1) != first + TIMES - 1:
        raise CheckpointUnusable("tokenizer.json doesn't number Whisper's control tokens as Whisper does.")
    return marks
