"""Text → tokens in bounded pieces, so that long texts hold up nobody, and what can't fit is known before it is encoded.

The `tokenizers` library keeps other Python threads from running while it encodes a text, but not in
`encode_batch_fast` (1 MB of words: 1.9 s and 0.4 s). Pieces end where the tokenizer itself has a border: between a
letter and a blank or a sign, where encoding the neighbourhood whole gives what encoding both sides apart gives.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import BPE

from engines.runner.patience import Patience
from engines.types.errors import ContextLengthExceeded

PIECE = 32 * 1024  # characters, about 10 ms
NEIGHBOURHOOD = 128  # characters on either side of a border that are looked at
TRIED_BORDERS = 64  # per piece; where none holds, the piece goes on to its second, fourth … length
_BORDER = re.compile(r"(?<=[^\W\d_])(?=[ \n,.;:!?，。、；：！？])")
_FALLBACK = re.compile(r"<0x[0-9A-F]{2}>")


class TooManyTokens(Exception):
    """The text has more tokens than may be; `at_least` so many."""

    def __init__(self, at_least: int) -> None:
        super().__init__(f"{at_least} tokens or more")
        self.at_least = at_least


def too_long(context_length: int, error: TooManyTokens, param: str) -> ContextLengthExceeded:
    """The error for a text that doesn't fit, whatever else there is."""
    return ContextLengthExceeded(
        f"This model's context is {context_length} tokens; at least {error.at_least} are needed for the {param} alone. "
        f"Shorten the {param}.",
        param=param,
    )


class TextEncoder:
    """A tokenizer at work. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Llama 2's puts a blank before every text, so what stands behind another text is encoded behind a line's end.
        self._lead = self._whole("\n")
        alone = self._whole("a")
        self._prepends = self._whole("\na")[len(self._lead) :] != alone
        around = list(tokenizer.encode("a", add_special_tokens=True).ids)
        place = next((at for at in range(len(around)) if around[at : at + len(alone)] == alone), 0)
        self._before, self._after = around[:place], around[place + len(alone) :]

    def ids(
        self,
        text: str,
        *,
        most: int | None = None,
        patience: Patience | None = None,
        special: bool = False,
        behind: bool = False,
    ) -> list[int]:
        """The tokens of the text; with `special`, and those that the tokenizer puts around one; `behind` another text.

        Raises `TooManyTokens` as soon as there are more than `most`, and what `patience` raises.
        """
        ids: list[int] = [*self._before] if special else []
        for place, piece in enumerate(self._pieces(text)):
            if place and patience is not None:
                patience.check()
            ids += self.behind(piece) if place or behind else self._whole(piece)
            if most is not None and len(ids) > most:
                raise TooManyTokens(len(ids))
        return [*ids, *self._after] if special else ids

    def behind(self, text: str) -> list[int]:
        """The tokens of a text that stands behind another."""
        if not self._prepends:
            return self._whole(text)
        ids = self._whole("\n" + text)
        leads = ids[: len(self._lead)] == self._lead
        return ids[len(self._lead) :] if leads else self._whole(text)

    def check(self, texts: Iterable[str], most: int) -> None:
        """Raises `TooManyTokens` for texts that by their length alone have more than `most`; nothing is encoded."""
        if (fewest := self.fewest(texts, most)) > most:
            raise TooManyTokens(fewest)

    def fewest(self, texts: Iterable[str], enough: int) -> int:
        """So many tokens the texts have at least; it stops counting beyond `enough`.

        No token is longer than the longest that holds any of its bytes: each byte takes its share of that one.
        """
        found = 0.0
        for text in texts:
            text = text.strip()  # templates do that
            for start in range(0, len(text), PIECE):
                piece = text[start : start + PIECE]
                counts = np.bincount(np.frombuffer(piece.encode("utf-8", "replace"), np.uint8), minlength=256)
                found += float(counts @ self._shares) * self._kept(piece)
                if found > enough + 1e-6:
                    return math.ceil(found)
        return math.ceil(found - 1e-6)

    def _whole(self, text: str) -> list[int]:
        return list(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _pieces(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > 2 * PIECE:
            end = self._border(text, start)
            yield text[start:end]
            start = end
        yield text[start:]

    def _border(self, text: str, start: int) -> int:
        """Where the piece that begins at `start` may end: at the text's end if nowhere else."""
        length = PIECE
        while start + length < len(text):
            borders = _BORDER.finditer(text, start + length, start + 2 * length)
            for _, border in zip(range(TRIED_BORDERS), borders, strict=False):
                if self._holds(text, border.start()):
                    return border.start()
            length *= 2
        return len(text)

    def _holds(self, text: str, at: int) -> bool:
        left, right = text[max(at - NEIGHBOURHOOD, 0) : at], text[at : at + NEIGHBOURHOOD]
        return self.behind(left + right) == self.behind(left) + self.behind(right)

    # -- how many at least ------------------------------------------------------------------------------------------

    @cached_property
    def _shares(self) -> npt.NDArray[np.float64]:
        """Of each byte the share that it has of a token at least: 0 where a token may be of any length."""
        model = self._tokenizer.model
        of_bytes = _bytes_of_letters() if "ByteLevel" in _state(self._tokenizer.pre_tokenizer) else None
        if not isinstance(model, BPE) or not (of_bytes or model.byte_fallback):
            return np.zeros(256)
        longest = np.zeros(256)
        alone = set()
        for token in self._tokenizer.get_vocab(with_added_tokens=True):
            data = _data(token, of_bytes)
            alone |= {data} if len(data) == 1 else set()
            for byte in set(data):
                longest[byte] = max(longest[byte], len(data))
        # Where a byte has no token, any number of such is one unknown token, or none.
        return 1 / longest if len(alone) == 256 else np.zeros(256)

    @cached_property
    def _normalizers(self) -> list[dict[str, Any]]:
        state = _state(self._tokenizer.normalizer)
        found = json.loads(state) if state else {}
        return list(found.get("normalizers", [found] if found else []))

    def _kept(self, text: str) -> float:
        """The share of a text's bytes that its normalization leaves at least; 0 where that is unknown."""
        kept = 1.0
        for normalizer in self._normalizers:
            match normalizer:
                case {"type": "NFC" | "NFKC" | "NFD" | "NFKD" as form}:
                    kept /= 1 if unicodedata.is_normalized(form, text) else 3
                case {"type": "Lowercase"}:
                    kept /= 1 if text.isascii() else 3
                case {"type": "Prepend" | "Strip"}:
                    pass
                case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if new:
                    kept /= max(1.0, len(_data(old, None)) / len(_data(new, None)))
                case _:
                    return 0
        return kept


def _state(part: Any) -> str:
    """A part of a tokenizer as the JSON that its file has; empty where there is none."""
    return part.__getstate__().decode() if part is not None else ""


def _data(token: str, of_bytes: dict[str, int] | None) -> bytes:
    """The bytes of text that a token stands for."""
    if _FALLBACK.fullmatch(token):
        return bytes([int(token[3:5], 16)])
    if of_bytes is not None and all(letter in of_bytes for letter in token):
        return bytes(of_bytes[letter] for letter in token)
    return token.replace("▁", " ").encode("utf-8", "replace")


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's alphabet: the letter for each byte; those that are no visible letter have one beyond the first 256."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}
