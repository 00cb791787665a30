"""The engine over checkpoints in miniature: what it says is noise, but always the same noise."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest

from demo.voice_checkpoints import make_qwen3_tts, make_qwen3_tts_base
from engines.ipc import job, runner_protocol
from engines.runner.device_lock import DeviceLock
from engines.runner.qwen3_tts import engine as engines
from engines.runner.qwen3_tts import model as models
from engines.runner.qwen3_tts.engine import VoiceEngine
from engines.runner.qwen3_tts.prompt import FRAME_SAMPLES, Utterance, UtteranceWriter
from engines.runner.qwen3_tts.sampling import Choosing
from engines.runner.row_engine import Report
from engines.types.audio import VOICE_RATE, Sound, UtteranceDone, UtteranceRequest

ROOM = 1 << 30
Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("voice")
    make_qwen3_tts(made)
    return made


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("base")
    make_qwen3_tts_base(made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> models.VoiceModel:
    return models.load(folder)


@pytest.fixture(scope="module")
def base(base_folder: Path) -> models.VoiceModel:
    return models.load(base_folder)


@pytest.fixture(scope="module")
def write(folder: Path) -> Callable[..., Utterance]:
    writer = UtteranceWriter.read(folder, 4096)

    def written(text: str, seconds: float = 2.0, seed: int | None = 3, **fields: Any) -> Utterance:
        return writer.write(UtteranceRequest("tts", text, max_seconds=seconds, seed=seed, **fields))

    return written


def recording(seconds: float = 3.0) -> bytes:
    """A falling tone with some noise."""
    time = np.arange(int(seconds * VOICE_RATE)) / VOICE_RATE
    noise = np.random.default_rng(5).standard_normal(len(time)) * 0.02
    return (0.2 * np.sin(2 * np.pi * (220 - 20 * time) * time) + noise).astype("<f4").tobytes()


def until_idle(engine: VoiceEngine) -> Iterator[Report]:
    while not engine.idle:
        yield from engine.step()


def heard(reports: Sequence[Report]) -> dict[int, Samples]:
    sounds: dict[int, list[bytes]] = {}
    for report in reports:
        if isinstance(report, runner_protocol.Said):
            assert isinstance(report.delta, Sound)
            sounds.setdefault(report.id, []).append(report.delta.samples)
    return {id: np.frombuffer(b"".join(parts), "<f4") for id, parts in sounds.items()}


def ends(reports: Sequence[Report]) -> dict[int, UtteranceDone]:
    found: dict[int, UtteranceDone] = {}
    for report in reports:
        assert not isinstance(report, job.Failed), report
        if isinstance(report, runner_protocol.Finished):
            assert isinstance(report.end, UtteranceDone)
            found[report.id] = report.end
    return found


def alone(model: models.VoiceModel, prompt: Utterance) -> tuple[Samples, UtteranceDone]:
    engine = VoiceEngine(model, ROOM)
    engine.submit(1, prompt, 64)
    reports = list(until_idle(engine))
    return heard(reports)[1], ends(reports)[1]


def test_an_utterance_comes_in_pieces_the_first_of_them_soon_and_says_how_long_it_is(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    engine = VoiceEngine(model, ROOM)
    engine.submit(1, write("The weather is fine today.", seconds=8.0), 64)
    reports = list(until_idle(engine))
    said = [report for report in reports if isinstance(report, runner_protocol.Said)]
    (end,) = ends(reports).values()
    sizes = [len(report.delta.samples) for report in said if isinstance(report.delta, Sound)]
    assert sizes[:2] == [4 * FRAME_SAMPLES * count * engines.FIRST_CHUNK_ALONE for count in (1, 2)]
    assert len(said) > 2
    assert end.seconds == len(heard(reports)[1]) / VOICE_RATE
    assert (end.finish_reason, end.usage.completion_tokens) == ("stop", end.seconds * 12.5)


def test_an_utterance_that_comes_to_others_begins_with_more_frames_at_a_time(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    engine = VoiceEngine(model, ROOM)
    for id in (1, 2):
        engine.submit(id, write("The weather is fine today.", seconds=8.0), 64)
    first: dict[int, int] = {}
    for report in until_idle(engine):
        if isinstance(report, runner_protocol.Said) and isinstance(report.delta, Sound):
            first.setdefault(report.id, len(report.delta.samples) // (4 * FRAME_SAMPLES))
    assert first[1] == engines.FIRST_CHUNK_ALONE and first[2] >= engines.FIRST_CHUNK


def test_where_speech_yields_to_others_it_pauses_often_and_sounds_the_same(
    folder: Path, model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    class Counted(DeviceLock):
        count = 0

        def pause(self) -> float:
            self.count += 1
            return 1.0

        def left(self) -> float:
            return 0.0

    prompt = write("Hello there.")
    expected, _ = alone(model, prompt)
    lock = Counted(-1)
    sliced = models.load(folder, lock)
    whole, _ = alone(sliced, prompt)
    assert lock.count == 0
    lock.share(True, yields=True)
    parts, done = alone(sliced, prompt)
    assert lock.count > 12.5 * done.seconds * sliced.groups
    for sound in (whole, parts):
        np.testing.assert_allclose(sound, expected, atol=1e-4)


def test_a_limit_ends_an_utterance_and_is_said(model: models.VoiceModel, write: Callable[..., Utterance]) -> None:
    sound, end = alone(model, write("The weather is fine today.", seconds=0.4))
    assert (end.finish_reason, end.seconds, len(sound)) == ("length", 0.4, 0.4 * VOICE_RATE)


def test_the_same_seed_gives_the_same_sound_and_another_one_another(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    first, again, other = (alone(model, write("Good morning!", 0.8, seed=seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other, atol=1e-4)


def test_sound_does_not_depend_on_how_many_frames_are_made_into_it_at_a_time(
    model: models.VoiceModel, write: Callable[..., Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed, _ = alone(model, write("Good morning!", seconds=1.2))
    monkeypatch.setattr(engines, "FIRST_CHUNK_ALONE", 1000)
    engine = VoiceEngine(model, ROOM)
    engine.submit(1, write("Good morning!", seconds=1.2), 64)
    engine._waiting[0].chunk = 1000
    reports = list(until_idle(engine))
    assert sum(isinstance(report, runner_protocol.Said) for report in reports) == 1
    assert np.allclose(heard(reports)[1], streamed, atol=1e-5)


def test_utterances_that_run_together_sound_as_they_do_alone(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    prompts = [
        write("Good morning!", seed=1, seconds=0.9, voice="Ryan", language="en"),
        write("今天天气很好，阳光明媚，适合出去散步。", seed=2, seconds=0.8, voice="eric", language="zh"),
        write("How are you today? I am fine, thank you.", seed=3, seconds=0.4, instructions="Very slowly."),
    ]
    engine = VoiceEngine(model, ROOM)
    reports: list[Report] = []
    for id, prompt in enumerate(prompts):
        engine.submit(id, prompt, 64)
        for _ in range(5):
            reports += engine.step()
    reports += until_idle(engine)
    together, all_ends = heard(reports), ends(reports)
    for id, prompt in enumerate(prompts):
        sound, end = alone(model, prompt)
        assert np.allclose(together[id], sound, atol=1e-4)
        assert all_ends[id].finish_reason == end.finish_reason


@pytest.mark.parametrize(
    "fields",
    [{}, {"voice": "vivian", "language": "en"}, {"voice": "dylan", "language": "zh"}, {"instructions": "Whisper."}],
    ids=str,
)
def test_the_library_alone_says_the_same(folder: Path, write: Callable[..., Utterance], fields: dict[str, str]) -> None:
    model = models.load(folder)
    model._choosing = Choosing(temperature=0.0, repetition_penalty=1.05)
    text = "Water boils at 100 degrees, freezes at 0."
    sound, end = alone(model, write(text, seconds=0.8, **fields))
    model._module.tokenizer = Encoder(folder)
    model._module.speech_tokenizer = Whole(model)
    names = {"en": "english", "zh": "chinese", "": "auto"}
    made = model._module._generate_with_instruct(
        text,
        fields.get("voice", "serena"),
        names[fields.get("language", "")],
        fields.get("instructions"),
        temperature=0.0,
        max_tokens=10,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.05,
        verbose=False,
    )
    (theirs,) = made
    assert end.usage.completion_tokens == theirs.token_count
    assert np.allclose(sound, np.array(theirs.audio), atol=1e-5)


class Encoder:
    """What the library's loop needs of a tokenizer."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class Whole:
    """What the library's loop needs of a codec, without its cutting of frames whose first code is 0."""

    def __init__(self, model: models.VoiceModel) -> None:
        self._codec = model.codec

    def decode(self, codes: mx.array) -> tuple[mx.array, mx.array]:
        sound = self._codec.decode(self._codec.new_stream(), codes[0].T)
        return sound[None], mx.array([len(sound)])


def test_a_cancelled_utterance_is_gone_within_a_step_and_the_others_go_on(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    engine = VoiceEngine(model, ROOM)
    kept = write("Good morning!", seed=1, seconds=1.0)
    engine.submit(1, kept, 64)
    engine.submit(2, write("How are you today?", seed=2, seconds=20.0), 64)
    reports = [report for _ in range(8) for report in engine.step()]
    engine.cancel(2)
    after = list(until_idle(engine))
    assert all(report.id == 1 for report in after)
    assert np.allclose(heard([*reports, *after])[1], alone(model, kept)[0], atol=1e-4)
    engine.submit(3, kept, 64)
    engine.step()
    engine.cancel(3)
    assert engine.idle and not list(engine.step())


def test_a_client_that_takes_nothing_stops_its_own_utterance_and_no_other(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    prompts = {1: write("Good morning!", seed=1, seconds=0.8), 2: write("How are you?", seed=2, seconds=0.8)}
    engine = VoiceEngine(model, ROOM)
    engine.submit(1, prompts[1], 1)
    engine.submit(2, prompts[2], 64)
    reports = list(until_idle(engine))
    assert sum(isinstance(report, runner_protocol.Said) and report.id == 1 for report in reports) == 1
    assert ends(reports).keys() == {2}
    engine.grant(1, 64)
    reports += until_idle(engine)
    assert ends(reports).keys() == {1, 2}
    for id, prompt in prompts.items():
        assert np.allclose(heard(reports)[id], alone(model, prompt)[0], atol=1e-4)


def test_one_without_credit_gives_its_cache_up_to_others_and_goes_on_as_if_nothing_were(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    prompts = {1: write("Good morning!", seed=1, seconds=0.8), 2: write("How are you?", seed=2, seconds=0.8)}
    engine = VoiceEngine(model, model.position_bytes * 40)
    engine.submit(1, prompts[1], 1)
    reports = list(until_idle(engine))
    engine.submit(2, prompts[2], 64)
    reports += until_idle(engine)
    assert ends(reports).keys() == {2}
    engine.grant(1, 64)
    reports += until_idle(engine)
    assert np.allclose(heard(reports)[1], alone(model, prompts[1])[0], atol=1e-4)


def test_no_more_utterances_run_than_fit_and_a_large_one_runs_alone(
    model: models.VoiceModel, write: Callable[..., Utterance]
) -> None:
    engine = VoiceEngine(model, model.position_bytes * 70)
    prompts = {id: write("Good morning!", seed=id, seconds=0.5) for id in range(4)}
    for id, prompt in prompts.items():
        engine.submit(id, prompt, 64)
    most = 0
    reports: list[Report] = []
    while not engine.idle:
        reports += engine.step()
        most = max(most, len(engine._running) + len(engine._paused))
    assert ends(reports).keys() == prompts.keys()
    assert most == 3
    engine.resize(1)
    engine.submit(9, prompts[0], 64)
    assert ends(list(until_idle(engine))).keys() == {9}


def test_what_fails_is_one_utterance(
    model: models.VoiceModel, write: Callable[..., Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = VoiceEngine(model, ROOM)
    engine.submit(1, write("Good morning!", seed=1), 64)
    engine.submit(2, write("How are you?", seed=2), 64)
    engine.step()
    engine.step()
    broken = engine._running[0].stream
    decode = model.codec.decode

    def fails(stream: list[Any], codes: mx.array) -> mx.array:
        if stream is broken:
            raise RuntimeError("secret")
        return decode(stream, codes)

    monkeypatch.setattr(model.codec, "decode", fails)
    reports = list(until_idle(engine))
    (failed,) = [report for report in reports if isinstance(report, job.Failed)]
    assert failed.id == 1 and "secret" not in failed.failure.message
    assert [report.id for report in reports if isinstance(report, runner_protocol.Finished)] == [2]


def test_memory_is_flat_over_many_requests(model: models.VoiceModel, write: Callable[..., Utterance]) -> None:
    engine = VoiceEngine(model, ROOM)
    held = []
    for number in range(20):
        engine.submit(number, write("Good morning! How are you?", seed=number, seconds=0.2), 64)
        list(until_idle(engine))
        held.append(mx.get_active_memory() + mx.get_cache_memory())
    assert held[-1] <= held[1] + 4096
    assert model.codec.new_stream() == [getattr(part, name) for part, name in model.codec._places]


@pytest.mark.parametrize("text", ["Hello there, my friend.", ""])
def test_a_voice_is_imitated_the_same_alone_and_with_others(
    base: models.VoiceModel, base_folder: Path, text: str
) -> None:
    writer = UtteranceWriter.read(base_folder, 4096)

    def prompt(seed: int) -> Utterance:
        voice: dict[str, Any] = {"reference": recording(), "reference_text": text}
        return writer.write(UtteranceRequest("tts", "Good morning!", max_seconds=0.4, seed=seed, **voice))

    engine = VoiceEngine(base, ROOM)
    for seed in (1, 2):
        engine.submit(seed, prompt(seed), 64)
    together = heard(list(until_idle(engine)))
    for seed in (1, 2):
        assert np.allclose(together[seed], alone(base, prompt(seed))[0], atol=1e-4)
    assert base._voices and len(base._voices) == 1


def test_a_prompt_is_as_long_as_its_writer_said(
    model: models.VoiceModel, base: models.VoiceModel, base_folder: Path, write: Callable[..., Utterance]
) -> None:
    for fields in ({}, {"language": "en"}, {"instructions": "Sadly, and very slowly."}):
        prompt = write("Good morning!", **fields)
        assert model.embed(prompt, None).shape[1] == prompt.prompt_tokens
    writer = UtteranceWriter.read(base_folder, 4096)
    for text in ("", "Hello there."):
        request = UtteranceRequest("tts", "Good morning!", reference=recording(3.3), reference_text=text)
        prompt = writer.write(request)
        assert base.embed(prompt, base.voice(prompt.reference)).shape[1] == prompt.prompt_tokens


def test_the_prompt_of_an_imitation_is_the_librarys(base: models.VoiceModel, base_folder: Path) -> None:
    request = UtteranceRequest(
        "tts", "Good morning!", language="en", reference=recording(), reference_text="Hello there."
    )
    prompt = UtteranceWriter.read(base_folder, 4096).write(request)
    module = base._module
    module.tokenizer = Encoder(base_folder)
    module.speech_tokenizer = type("Codes", (), {"encode": lambda self, sound: base.codec.encode(sound[0, 0])[None]})()
    sound = mx.array(np.frombuffer(request.reference, "<f4"))
    theirs, *_ = module._prepare_icl_generation_inputs("Good morning!", sound, "Hello there.", "english")
    assert np.allclose(np.array(base.embed(prompt, base.voice(request.reference))), np.array(theirs), atol=1e-5)
