"""Recordings and speech over real processes: the media process, and runners of small checkpoints."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest

from demo.speech_checkpoints import make_aligner, make_qwen3_asr
from demo.voice_checkpoints import make_qwen3_tts, make_qwen3_tts_base
from demo.whisper_checkpoint import make_whisper
from engines.models.catalog import Catalog, Roots
from engines.service.options import RuntimeOptions
from engines.service.pool import PoolLimits
from engines.service.service import AudioOptions, Local
from engines.types.audio import AlignRequest, SpeechDone, SpeechRequest, Transcript, TranscriptionRequest
from engines.types.chat import ChatRequest, Message
from engines.types.common import Started
from engines.types.errors import InvalidRequest, ShuttingDown, UnknownVoice, WrongCapability
from engines.types.streams import last
from tests.contract import check_audio
from tests.promises import promise
from tests.sounds import beeps

MAKERS: Mapping[str, Callable[[Path], None]] = {
    "qwen3-asr": make_qwen3_asr,
    "qwen3-aligner": make_aligner,
    "whisper": make_whisper,
    "qwen3-tts": make_qwen3_tts,
    "qwen3-tts-base": make_qwen3_tts_base,
}
LIMITS = PoolLimits(8 << 30, max_running=16, queue_limit=64, idle_unload=-1.0, patience=30.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, make in MAKERS.items():
        make(folder / f"toy-{name}")
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(beeps(tmp_path_factory.mktemp("sounds") / "beeps.wav", minutes=1.3))


def run(models: Path, body: Callable[[Local], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        catalog = Catalog(Roots(configured=(models,)), {name: f"toy-{name}" for name in MAKERS})
        audio = AudioOptions(models.parent / f"{models.name}-voices")
        async with asyncio.timeout(100), Local(catalog, RuntimeOptions(LIMITS), audio) as local:
            await body(local)

    asyncio.run(main())


async def transcript(local: Local, request: TranscriptionRequest) -> Transcript:
    return await last(local.transcribe(request), Transcript)


@promise("core:request:ends-once")
@pytest.mark.parametrize("listener", ["qwen3-asr", "whisper"])
def test_it_keeps_the_contract_of_inference_for_sound(models: Path, recording: str, listener: str) -> None:
    run(models, lambda local: check_audio(local, recording, listener, "qwen3-tts"))


@promise("audio:words")
@pytest.mark.parametrize("listener", ["qwen3-asr", "whisper"])
def test_words_have_times_by_the_model_itself_or_by_the_aligner(models: Path, recording: str, listener: str) -> None:
    async def body(local: Local) -> None:
        heard = await transcript(local, TranscriptionRequest(listener, recording, words=True))
        words = [word for segment in heard.segments for word in segment.words]
        times = [time for word in words for time in (word.start, word.end)]
        assert times == sorted(times) and all(0 <= time <= heard.seconds for time in times)
        said = [segment for segment in heard.segments if any(map(str.isalnum, segment.text)) and not segment.looped]
        assert said and all(segment.words for segment in said)
        # The toy aligner has random weights, and says one time for everything: nobody speaks like that.
        is_approximate = listener == "qwen3-asr"
        assert {segment.approximate for segment in said} == {is_approximate}
        assert any("times of words are approximate" in sentence for sentence in heard.incomplete) == is_approximate

    run(models, body)


@promise("audio:translations:by-who-can")
@pytest.mark.parametrize("listener", ["qwen3-asr", "whisper-en", "whisper-turbo"])
def test_a_translation_by_what_can_not_is_refused_with_what_can_before_anything_is_loaded(
    models: Path, recording: str, tmp_path: Path, listener: str
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(models / "toy-qwen3-asr", folder / "qwen3-asr")
    make_whisper(folder / "whisper-en", multilingual=False)
    shutil.copytree(models / "toy-whisper", folder / "whisper-turbo")
    config = json.loads((folder / "whisper-turbo/config.json").read_text())
    (folder / "whisper-turbo/config.json").write_text(json.dumps({**config, "n_audio_layer": 32, "n_text_layer": 4}))

    async def refused(says: str) -> None:
        async with Local(
            Catalog(Roots(configured=(folder,)), {}), RuntimeOptions(LIMITS), AudioOptions(tmp_path)
        ) as local:
            with pytest.raises(WrongCapability, match=says) as caught:
                await transcript(local, TranscriptionRequest(listener, recording, translate=True))
            assert caught.value.param == "model" and local.model(listener).phase == "unloaded"

    asyncio.run(refused(rf"^{listener} .* pull mlx-community/whisper-large-v3-asr-fp16 \(whisper-large-v3\)"))
    shutil.copytree(models / "toy-whisper", folder / "whisper-that-can")
    asyncio.run(refused(rf"^{listener} .* ask whisper-that-can"))


@promise("audio:words")
def test_words_without_the_aligner_are_refused_before_anything_is_loaded(models: Path, recording: str) -> None:
    async def body(local: Local) -> None:
        local._audio = AudioOptions(local._audio.voices, aligner="absent")
        with pytest.raises(InvalidRequest, match="aligner is missing"):
            await transcript(local, TranscriptionRequest("qwen3-asr", recording, words=True))
        assert local.model("qwen3-asr").phase == "unloaded"

    run(models, body)


@pytest.mark.parametrize("listener", ["qwen3-asr", "whisper"])
def test_a_prompt_that_is_too_long_for_the_model_is_cut_and_the_answer_says_so(
    models: Path, recording: str, listener: str
) -> None:
    async def body(local: Local) -> None:
        heard = await transcript(local, TranscriptionRequest(listener, recording, prompt="字" * 10_000))
        assert "of the prompt's 10000 characters reached the model" in heard.incomplete[0]

    run(models, body)


@pytest.mark.parametrize(("minutes", "text", "param"), [(0.1, "Yes.", "text"), (0.02, "Yes.", "audio_sample")])
def test_what_is_wrong_with_a_voice_to_keep_names_the_field_of_its_form(
    models: Path, tmp_path: Path, minutes: float, text: str, param: str
) -> None:
    clip = str(beeps(tmp_path / "me.wav", minutes))

    async def body(local: Local) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await local.store_voice("me", clip, text, "It is me, and I agree.")
        assert caught.value.param == param

    run(models, body)


def test_a_stored_voice_is_imitated_by_its_name(models: Path, tmp_path: Path) -> None:
    clip = str(beeps(tmp_path / "me.wav", minutes=0.1))

    async def body(local: Local) -> None:
        await local.store_voice("阿明", clip, "One two three four five six seven.", "It is me, and I agree.")
        assert "阿明" in [voice.name for voice in await local.voices("qwen3-tts-base")]
        async with aclosing(local.speak(SpeechRequest("qwen3-tts-base", "Hello.", voice="阿明"))) as events:
            assert [event async for event in events][-1].seconds > 0  # type: ignore[union-attr]
        await local.delete_voice("阿明")
        with pytest.raises(UnknownVoice, match="no stored voice"):
            await local.delete_voice("阿明")

    run(models, body)


async def begun(events: AsyncGenerator[object]) -> None:
    """The request has started; of its pieces some are still to be admitted, for nobody asks for more."""
    assert isinstance(await anext(events), Started)


async def stopping(local: Local, grace: float) -> "asyncio.Task[None]":
    """A stop that has begun."""
    task = asyncio.create_task(local.close(grace))
    await asyncio.sleep(0)
    return task


@promise("core:server:stopped")
def test_a_stop_lets_a_request_of_many_pieces_end_and_admits_no_other(models: Path, recording: str) -> None:
    async def body(local: Local) -> None:
        asked = TranscriptionRequest("whisper", recording)
        whole = await transcript(local, asked)
        heard = local.transcribe(asked)
        spoken = local.speak(SpeechRequest("qwen3-tts", " ".join(f"Sentence number {n}." * 2 for n in range(8))))
        await begun(heard)
        await begun(spoken)
        found = asyncio.create_task(local.align(AlignRequest("qwen3-aligner", recording, "one two three")))
        await asyncio.sleep(0)
        end = await stopping(local, 60.0)
        for late in (
            local.transcribe(asked),
            local.speak(SpeechRequest("qwen3-tts", "Hello.")),
            local.chat(ChatRequest("qwen3-tts", (Message("user", "hello"),))),
        ):
            with pytest.raises(ShuttingDown):
                await anext(late)
        with pytest.raises(ShuttingDown):
            await local.align(AlignRequest("qwen3-aligner", recording, "one"))
        assert (await last(heard, Transcript)).text == whole.text
        assert (await last(spoken, SpeechDone)).seconds > 0
        assert (await found).words
        await end

    run(models, body)


@promise("core:server:stopped")
def test_when_the_grace_is_over_a_request_of_many_pieces_is_told(models: Path, recording: str) -> None:
    async def body(local: Local) -> None:
        heard = local.transcribe(TranscriptionRequest("whisper", recording))
        await begun(heard)
        await (await stopping(local, 0.1))
        with pytest.raises(ShuttingDown):
            await last(heard, Transcript)

    run(models, body)
