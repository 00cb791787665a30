"""What the training of the voice toy computes is what the library and the server compute."""

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_audio.tts.utils import load_model

from demo.voice_checkpoints import TRAINED, trained_qwen3_tts
from engines.runner.qwen3_tts import model as models
from engines.runner.qwen3_tts.prompt import UtteranceWriter
from engines.types.audio import UtteranceRequest
from training.speech.phrases import CHINESE, ENGLISH
from training.voice import codec, measure, robot, talker, texts
from training.voice.codebooks import Codebooks, learn, lost
from training.voice.robot import BANDS, FRAME, STEPS
from training.voice.talker import TalkerWriter
from training.voice.units import LANGUAGES, LETTERS, SILENCE, SPEAKERS, Units, letter, word

WIDTH = 72


def known_words() -> list[str]:
    return [word(language, text) for language in LANGUAGES for text in language.words]


@pytest.fixture(scope="module")
def known() -> Units:
    """Noise, of one to three frames each."""
    names = [SILENCE, *map(letter, LETTERS), *known_words()]
    places: dict[str, dict[str, tuple[int, int]]] = {}
    count = 0
    for speaker in SPEAKERS:
        places[speaker] = {}
        for number, name in enumerate(names):
            places[speaker][name] = (count, 1 + number % 3)
            count += 1 + number % 3
    energies = np.random.default_rng(1).normal(-4, 3, (count, STEPS, BANDS + 1))
    energies[..., -1] = np.clip(energies[..., -1], 0, 1)
    return Units(energies.astype(np.float32), places)


@pytest.fixture(scope="module")
def books(known: Units) -> Codebooks:
    draw = np.random.default_rng(2)
    codes = draw.integers(1, TRAINED.codes, (len(known.energies), TRAINED.groups))
    return Codebooks(draw.normal(0, 0.5, (TRAINED.groups, TRAINED.codes, WIDTH)), codes)


@pytest.fixture(scope="module")
def decoder(books: Codebooks) -> Any:
    return codec.new_decoder(books)


@pytest.fixture(scope="module")
def model() -> Any:
    return talker.new_model(talker.new_tokenizer())


@pytest.fixture(scope="module")
def writer(known: Units, books: Codebooks) -> TalkerWriter:
    return TalkerWriter(talker.new_tokenizer(), known, books.codes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any, decoder: Any) -> Path:
    """A checkpoint, put together as after training."""
    out = tmp_path_factory.mktemp("out")
    talker.save(model.talker, out)
    codec.save(decoder, out)
    talker.new_tokenizer().save(str(out / "qwen3-tts.tokenizer.json"))
    measure.put_together(out)
    made = tmp_path_factory.mktemp("checkpoint")
    trained_qwen3_tts(made, out)
    return made


def test_codes_are_decoded_as_the_library_decodes_them(decoder: Any, books: Codebooks) -> None:
    codes = mx.array(books.codes[:10].reshape(2, 5, -1))
    theirs = decoder(codes.transpose(0, 2, 1))[:, 0]
    assert np.allclose(np.array(codec.decode(decoder, codes)), np.array(theirs), atol=1e-5)


def test_a_prompt_and_what_follows_it_are_what_the_server_makes_of_it(
    model: Any, writer: TalkerWriter, folder: Path
) -> None:
    end = model.config.talker_config.codec_eos_token_id
    server = models.load(folder)
    model.talker.update(server._talker.parameters())
    sequences = [
        writer.sequence("Hello, this is local.", "ryan", "english", "please stop"),
        writer.sequence("会议三点开始", "serena"),
    ]
    given = talker.batch(sequences, end, None)
    first, rest = talker.outputs(model.talker, given)
    prompt = UtteranceWriter.read(folder, 4096).write(
        UtteranceRequest("tts", "Hello, this is local.", voice="ryan", language="en", instructions="please stop")
    )
    own = sequences[0]
    inputs = server.embed(prompt, None, mx.array(own.frames))
    assert prompt.prompt_tokens == len(own.text)
    hidden = server._talker.model(inputs)[:, len(own.text) - 1 :]
    logits = np.array(server._talker.codec_head(hidden)[0])
    assert np.allclose(np.array(first)[: len(logits)], logits, atol=1e-4)
    assert np.array(given.first)[: len(logits)].tolist() == [*own.frames[:, 0], end]
    predictor, cache = server._predictor, server._predictor.make_cache()
    codes = mx.array(own.frames)
    told = hidden[0, :-1, None]
    inputs = mx.concatenate([told, server._talker.model.codec_embedding(codes[:, 0])[:, None]], axis=1)
    for group, ours in enumerate(rest):
        theirs, cache, _ = predictor(inputs, cache=cache, generation_step=group)
        assert np.allclose(np.array(ours)[: len(codes)], np.array(theirs[:, -1]), atol=1e-4)
        inputs = predictor.codec_embedding[group](codes[:, group + 1])[:, None]


def test_the_library_reads_strictly_what_is_stored_and_decodes_alike(folder: Path, books: Codebooks) -> None:
    theirs, ours = load_model(folder, strict=True), models.load(folder)
    codes = mx.array(books.codes[:6])
    sound = ours.codec.decode(ours.codec.new_stream(), codes.T)
    assert np.allclose(np.array(theirs.speech_tokenizer.decode(codes[None])[0][0]), np.array(sound), atol=1e-5)


def test_equal_frames_sound_equal_wherever_they_stand() -> None:
    draw = np.random.default_rng(3)
    frame, other = (draw.normal(-4, 2, (4 * STEPS, BANDS + 1)) for _ in range(2))
    for one in (frame, other):
        one[:, -1] = draw.uniform(0, 1, len(one))
    for speaker in SPEAKERS.values():
        first = robot.spoken(np.concatenate([frame, other]), speaker.pitch)
        second = robot.spoken(np.concatenate([other, frame, other]), speaker.pitch)
        assert len(first) == 8 * FRAME
        assert np.allclose(first[FRAME : 3 * FRAME], second[5 * FRAME : 7 * FRAME], atol=1e-3 * np.abs(first).max())


def test_what_the_robot_says_has_the_energies_that_are_wanted() -> None:
    steps = np.full((6 * STEPS, BANDS + 1), -3.0)
    steps[:, 10:20] = 0.0
    steps[:, -1] = 1.0
    made = robot._bands(robot.spoken(steps, 100.0).astype(np.float64))[STEPS:-STEPS]
    assert np.abs(made[:, 12:18]).max() < 0.7
    assert np.abs(made[:, 28:36] + 3).max() < 0.7


def test_codes_tell_frames_apart_and_the_first_is_never_0(known: Units) -> None:
    places = {name: place for name, place in known.places["man"].items() if sum(place) <= 120}
    few = Units(known.energies[:120], {"man": places})
    found = learn(few, 3, 16, 30)
    assert found.codes[:, 0].min() == 1 and found.codes.max() == 15
    assert lost(few, found) < 0.9 * lost(few, learn(few, 1, 16, 30)) < 0.9


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Hello, this is", ["en:hello", SILENCE, "en:this", "en:is"]),
        ("会议三点开始。", ["zh:会议", "zh:三", "zh:点", "zh:开始", SILENCE]),
        ("Zug 7!", ["letter:z", "letter:u", "letter:g", "en:seven", SILENCE]),
        ("( )", []),
    ],
)
def test_words_are_units_and_all_else_is_letters(writer: TalkerWriter, text: str, units: list[str]) -> None:
    found = writer.reader.units(writer.reader.tokens(text))
    assert found[0] == found[-1] == SILENCE
    assert found[1:-1] == units


def test_every_word_is_one_token_small_large_and_behind_a_blank(writer: TalkerWriter) -> None:
    for language in (ENGLISH, CHINESE):
        for text in language.words:
            for form in (text, text.capitalize(), f" {text}", f" {text.capitalize()}"):
                assert len(writer.reader.tokens(form)) == 1, form


def test_sequences_are_drawn_with_all_voices_and_texts_and_are_short(writer: TalkerWriter) -> None:
    draw = random.Random(4)
    made = [writer.drawn(draw) for _ in range(300)]
    assert max(one.places for one in made) < talker.LONGEST
    assert min(len(one.frames) for one in made) >= 3
    assert len({tuple(one.codec[3:]) for one in made}) > 9


def test_texts_are_known_words_mostly(writer: TalkerWriter) -> None:
    draw, lines = random.Random(5), texts.lines()
    drawn = [texts.draw_text(draw, ENGLISH, lines) for _ in range(200)]
    words = [unit for text in drawn for unit in writer.reader.units(writer.reader.tokens(text))]
    assert sum(unit.startswith("en:") for unit in words) > 300
