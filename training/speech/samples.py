"""`python -m training.speech.samples`: speaks the recordings that are kept in the repository, by held-out voices.

Into demo/recordings go three to try the demo with, into training/tests/utterances short ones that tests measure. Beside
each lot stands recordings.json, as `demo.recordings` reads it.
"""

import sys
from pathlib import Path

import av
import msgspec
import numpy as np

from demo.recordings import BundledRecording
from training.speech import corpus, phrases, sound
from training.speech.sound import Samples
from training.speech.voices import Manner, speak

ROOT = Path(__file__).parents[2]
DEMO, TESTS = ROOT / "demo" / "recordings", ROOT / "training" / "tests" / "utterances"
# By file: the language, the manner, and sentences, which become one recording with pauses between.
SCRIPTS = {
    "english.flac": (
        phrases.ENGLISH,
        Manner("en-gb+f5", 175, 50),
        ("hello this is the local recording", "the meeting starts at nine in london today", "please send the report"),
    ),
    "chinese.flac": (phrases.CHINESE, Manner("cmn-latn-pinyin+f5", 165, 50), ("你好", "今天 会议 九 点 开始", "谢谢")),
    "cantonese.flac": (phrases.CANTONESE, Manner("yue+f5", 150, 50), ("你好", "今日 會議 九 點 開始", "多謝")),
}
TEST_SEEDS = range(2_000_000, 2_000_012)


def flac(samples: Samples, path: Path) -> None:
    """16 bits, one channel."""
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=sound.RATE, layout="mono", options={"compression_level": "12"})
        whole = np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        frame.sample_rate = sound.RATE
        fifo = av.AudioFifo()
        fifo.write(frame)
        while part := fifo.read(stream.codec_context.frame_size or 4096, partial=True):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def for_the_demo(folder: Path) -> list[BundledRecording]:
    """Sentences with half a second between them."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for name, (language, manner, sentences) in SCRIPTS.items():
        pause = np.zeros(sound.RATE // 2, np.float32)
        parts = [pause]
        for sentence in sentences:
            parts += [speak([language.words[word] for word in sentence.split()], manner).samples, pause]
        flac(_loud(np.concatenate(parts)), folder / name)
        text = language.blank.join(language.written(one.split()) for one in sentences)
        kept.append(BundledRecording(name, text, language.code))
    return kept


def for_tests(folder: Path) -> list[BundledRecording]:
    """One to four words in any order, by all held-out voices, in all three languages."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for number, seed in enumerate(TEST_SEEDS):
        language = phrases.LANGUAGES[max(0, number // 3 - 1)]  # six in English, three in each other
        utterance, samples = corpus.spoken(corpus.short, seed, language, corpus.by_strangers)
        name = f"{number:02}.flac"
        flac(_loud(np.pad(samples, sound.RATE // 5)), folder / name)
        kept.append(BundledRecording(name, language.written(utterance.words), language.code))
    return kept


def _loud(samples: Samples) -> Samples:
    return samples * np.float32(0.4 / np.abs(samples).max())


def main() -> int:
    """Returns the exit status."""
    for folder, write in ((DEMO, for_the_demo), (TESTS, for_tests)):
        content = msgspec.json.format(msgspec.json.encode(write(folder)), indent=2)
        (folder / "recordings.json").write_bytes(content + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
