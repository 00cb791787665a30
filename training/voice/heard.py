"""`python -m training.voice.heard [TEXTS]`: how well speech that lacks words is told, on the demo's models.

Texts of the demo's words are spoken a few words at a time, which its voice does rightly, and joined: so what is in the
sound is known. Every other text lacks half of its words. Each is judged by its length alone, and by the demo's ASR too,
as `engines.synthesis` does.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np

from demo.checkpoints import WEIGHTS
from demo.voice_checkpoints import trained_qwen3_tts
from engines.synthesis.completeness import Made
from engines.synthesis.duration_check import is_doubtful, judge
from engines.synthesis.recall import recall
from engines.types.audio import VOICE_RATE
from engines.types.common import Usage
from training.speech import phrases
from training.speech.measure import hear, load
from training.speech.phrases import CHINESE, ENGLISH, Language
from training.speech.sound import Samples
from training.voice.measure import NAME, SEED, VoiceCheckpoint, heard

TEXTS = 200
TOGETHER = 3  # words
_CHECKS = (("length alone", "by_length"), ("with hearing", "by_hearing"), ("if all were heard", "always_heard"))
SIZES = (8, 12, 16, 20)  # words of a text, at most


class HearingCase(msgspec.Struct, frozen=True):
    """A text, sound with all of its words or half of them, whether its length leaves a doubt, and whether it passes by
    its length, by hearing what is doubtful, by hearing whatever its length."""

    text: str
    whole: bool
    asked: bool
    by_length: bool
    by_hearing: bool
    always_heard: bool


def cases(voice: VoiceCheckpoint, listener: Any, count: int) -> Iterator[HearingCase]:
    draw = random.Random(SEED)
    for number in range(count):
        language = (ENGLISH, CHINESE)[number // 2 % 2]
        words = phrases.sentences(draw, language, draw.choice(SIZES))
        whole = number % 2 == 0
        text = language.written(words)
        sound = _spoken(voice, language, words if whole else _half(words, draw), number)
        verdict = judge(text, len(sound) / VOICE_RATE, float(np.abs(sound).max()), capped=False, instructed=False)
        made = Made(sound.tobytes(), 0.1, verdict, Usage(0, 0))
        asked = is_doubtful(text, made.seconds, verdict, False)
        judged = made.heard(recall(text, hear(listener, heard(sound))[0]))
        passes = [one.verdict == "whole" for one in (made, judged if asked else made, judged)]
        yield HearingCase(text, whole, asked, *passes)


def _half(words: list[str], draw: random.Random) -> list[str]:
    """Words without a stretch of half of them, anywhere."""
    size = len(words) // 2
    start = draw.randint(0, len(words) - size)
    return words[:start] + words[start + size :]


def _spoken(voice: VoiceCheckpoint, language: Language, words: list[str], seed: int) -> Samples:
    parts = [words[start : start + TOGETHER] for start in range(0, len(words), TOGETHER)]
    return np.concatenate([voice.say(language.written(part), NAME, seed).samples for part in parts])


def report(found: list[HearingCase]) -> Iterator[str]:
    """Lines of figures."""
    whole, half = [one for one in found if one.whole], [one for one in found if not one.whole]
    yield f"{len(found)} texts: {len(whole)} spoken whole, {len(half)} without half of their words"
    yield f"heard, because their length leaves a doubt: {sum(one.asked for one in found)}"
    for name, check in _CHECKS:
        alarms, caught = (sum(not getattr(one, check) for one in some) for some in (whole, half))
        yield f"{name}: {alarms} false alarms of {len(whole)}, {caught} caught of {len(half)}"


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if len(arguments) > 1 or not all(one.isdecimal() for one in arguments):
        sys.stderr.write("usage: python -m training.voice.heard [TEXTS]\n")
        return 2
    mx.set_default_device(mx.cpu)
    listener = load(WEIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        trained_qwen3_tts(Path(folder))
        found = list(cases(VoiceCheckpoint(Path(folder)), listener, int(arguments[0]) if arguments else TEXTS))
    sys.stdout.writelines(f"{line}\n" for line in report(found))
    wrong = [one for one in found if one.whole != one.by_hearing]
    sys.stdout.writelines(f"      {'whole' if one.whole else 'half'}, judged wrongly: {one.text}\n" for one in wrong)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
