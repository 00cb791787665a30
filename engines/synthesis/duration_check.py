"""How long a text takes to speak, and whether sound of some length can be all of it. Pure.

Estimates of ordinary reading, by what a character is. A model that skips words, breaks off or goes on and on is far
outside; one that reads quickly or with feeling is not.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Literal

# "partial" is what was heard, and not what the length says.
Verdict = Literal["whole", "silent", "short", "long", "cut", "partial"]

# Seconds of ordinary reading that a character takes, the first script that fits.
_SCRIPTS = (
    (re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]"), 0.14),  # kana
    (re.compile(r"[\u2e80-\u2fdf\u3005\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 0.23),  # Han
    (re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff]"), 0.2),  # Hangul
    (re.compile(r"[\u0590-\u08ff]"), 0.11),  # Hebrew, Arabic and their neighbours: vowels aren't written
)
LETTER, DIGIT, SPELLED, SYMBOL = 0.075, 0.27, 0.22, 0.3
_PAUSES = {**dict.fromkeys("。！？；.!?;…", 0.25), **dict.fromkeys("，、,：:—", 0.12), "\n": 0.3}
_ACRONYM = re.compile(r"[A-Z]{2,}")
_NETWORK = re.compile(r"(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]{1,64}\.\S+", re.IGNORECASE)
BEFORE = 0.2  # what any utterance has around it

LEAST, MOST = 0.5, 2.5
LEAST_INSTRUCTED, MOST_INSTRUCTED = 0.3, 4.0  # "very slowly", "as fast as you can"
SLACK_BELOW, SLACK = 0.35, 1.0  # seconds: the shorter a text, the less its length says
# Between these shares of the usual length nothing is missing, or said twice, as a rule. By the length alone that can't
# be told: voices differ more in their pace.
LEAST_SURE, MOST_SURE = 1.25, 1.75
NEAR = 1.25  # so far beyond a bound a text that was heard whole is one
BEYOND = 1.2  # a model that hasn't ended by then is stopped
SILENT = 1e-3  # no sample above it


def usual_seconds(text: str) -> float:
    """Of ordinary reading; 0 for nothing that can be spoken."""
    spelled = sum(len(match[0]) for match in _ACRONYM.finditer(text)) * (SPELLED - LETTER)
    # In addresses the marks between the words are read out.
    marks = sum(not char.isalnum() for match in _NETWORK.finditer(text) for char in match[0]) * SYMBOL / 3
    spoken = sum(map(_seconds_of, text))
    return BEFORE + spoken + spelled + marks if spoken else 0.0


@lru_cache(4096)
def _seconds_of(char: str) -> float:
    if char.isascii():
        if char.isalpha():
            return LETTER
        if char.isdigit():
            return DIGIT
    if char in _PAUSES:
        return _PAUSES[char]
    kind = unicodedata.category(char)
    if kind[0] == "N":
        return DIGIT
    if kind in ("Sc", "Sm", "So") or char in "%&@#§°":
        return SYMBOL
    if kind[0] != "L":
        return 0.0
    return next((seconds for script, seconds in _SCRIPTS if script.match(char)), LETTER)


def bounds(text: str, instructed: bool) -> tuple[float, float]:
    """The least and the most seconds that can be all of a text, when `instructed` in a manner of its own.

    Of sound as the model makes it: speed is applied to it afterwards.
    """
    usual = usual_seconds(text)
    least, most = (LEAST_INSTRUCTED, MOST_INSTRUCTED) if instructed else (LEAST, MOST)
    return max(0.0, least * usual - SLACK_BELOW), most * usual + SLACK


def cap(text: str, instructed: bool) -> float:
    """The seconds at which a model is stopped: what goes on till then is no reading of this text."""
    return bounds(text, instructed)[1] * BEYOND


def judge(text: str, seconds: float, loudest: float, *, capped: bool, instructed: bool) -> Verdict:
    """Whether sound of so many seconds, whose largest sample is `loudest`, can be all of a text.

    "cut": the model was stopped at the cap. "short" and "long" lie outside the bounds.
    """
    if capped:
        return "cut"
    least, most = bounds(text, instructed)
    if seconds <= 0 or loudest < SILENT:
        return "silent"
    if seconds < least:
        return "short"
    return "long" if seconds > most else "whole"


def is_doubtful(text: str, seconds: float, verdict: Verdict, instructed: bool) -> bool:
    """Whether who hears the sound should judge it: its length is near a bound, on either side, or far from sure."""
    if verdict == "whole":
        return not LEAST_SURE <= seconds / max(usual_seconds(text), BEFORE) <= MOST_SURE
    least, most = bounds(text, instructed)
    return verdict in ("short", "long") and least / NEAR <= seconds <= most * NEAR
