"""The engine: rows join and leave one batch, each with the text that it has alone; what fails, fails alone."""

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.ipc import runner_protocol
from engines.runner.device_lock import DeviceLock
from engines.runner.whisper import model as models
from engines.runner.whisper import rules, token_choice
from engines.runner.whisper.caches import Rows
from engines.runner.whisper.model import FRAMES, Cross, WhisperModel
from engines.runner.whisper.rules import Allowed
from engines.runner.whisper.token_choice import Chooser, WhisperChoice, WhisperDraw
from engines.types.audio import PieceDone
from engines.types.errors import InternalError
from tests.engines.runner.whisper.desk import Desk, done, error, once, parts, request, text_of, without_timings
from tests.promises import promise


class Led(WhisperModel):
    """A real model whose next tokens are given: `says` in every window, then the end; without it, it says its own.

    A wanted token's logit is `doubt` above all others. `silence` is the probability that nobody speaks.
    """

    def __init__(
        self, folder: Path, says: Sequence[int] = (), silence: float | None = None, doubt: float = 30.0
    ) -> None:
        loaded = models.load(folder)
        super().__init__(loaded._module, loaded.alignment_heads)
        self._says = list(says)
        self.prompts: list[tuple[int, ...]] = []
        self.batches: list[int] = []
        self.listened = 0
        self._silence = silence
        self._doubt = doubt
        self._marks = parts(folder)[1].marks

    def listen(self, features: np.ndarray) -> Cross:
        self.listened += 1
        return super().listen(features)

    def begin(self, prompt, crossed, places):  # type: ignore[no-untyped-def]
        logits, row = super().begin(prompt, crossed, places)
        self.prompts.append(tuple(prompt))
        if self._silence is not None and len(places) == 2:
            logits[0] = mx.zeros_like(logits[0])
            logits[0, self._marks.no_speech] = float(
                np.log(self._silence / (1 - self._silence) * (logits.shape[1] - 1))
            )
        return (self._led(logits, self._says[0]) if len(places) == 2 and self._says else logits), row

    def decode(self, tokens: Sequence[int], rows: Rows) -> mx.array:
        self.batches.append(len(tokens))
        logits = super().decode(tokens, rows)
        if not self._says:
            return logits
        place = rows.lengths[0] - len(self.prompts[-1])
        return self._led(logits, self._says[place] if place < len(self._says) else self._marks.end)

    def _led(self, logits: mx.array, wanted: int) -> mx.array:
        led = mx.zeros_like(logits)
        led[:, wanted] = self._doubt
        if logits.shape[0] == 2:
            led[0] = logits[0]
        return led


def script(folder: Path, *said: str | float) -> list[int]:
    """Texts and times as tokens."""
    _, vocabulary = parts(folder)
    tokens: list[int] = []
    for one in said:
        tokens += vocabulary.encode(one) if isinstance(one, str) else [vocabulary.marks.first_time + round(one * 50)]
    return tokens


# -- together as alone ----------------------------------------------------------------------------------------------


def test_pieces_together_have_the_text_that_each_has_alone(desk: Desk) -> None:
    asked = [
        request(30.0, 1, language="en", words=True),
        request(2.5, 2, language="zh", context="several names", words=True),
        request(12.0, 3, translate=True),
        request(7.0, 4, repetition_penalty=1.3),
        request(5.0, 5, temperature=0.7),
    ]
    alone = [without_timings(desk.ask(one)[0]) for one in asked]
    together = [without_timings(one) for one in desk.ask(*asked)]
    assert [plain(one) for one in together] == [plain(one) for one in alone]
    assert sum(len(one.segments) for one in alone) > 4


def plain(ended: PieceDone) -> PieceDone:
    """Without figures that sums in another order change in their last digits."""
    segments = [
        msgspec.structs.replace(
            one,
            avg_logprob=round(one.avg_logprob or 0, 3),
            no_speech_prob=round(one.no_speech_prob or 0, 3),
            words=tuple(
                msgspec.structs.replace(word, probability=round(word.probability or 0, 3)) for word in one.words
            ),
        )
        for one in ended.segments
    ]
    return msgspec.structs.replace(ended, segments=tuple(segments))


def test_rows_join_and_leave_at_any_step(small: Desk) -> None:
    asked = {id: request(6.0 + id, 10 + id) for id in range(5)}
    alone = {id: [one.text for one in small.ask(each)[0].segments] for id, each in asked.items()}
    texts: dict[int, list[str]] = {}
    waiting = list(asked)
    for step in range(5000):
        if waiting and step % 7 == 0:
            small.submit(waiting[0], asked[waiting.pop(0)])
        if step == 20:
            small.engine.cancel(1)
        for report in small.engine.step():
            if isinstance(report, runner_protocol.Finished):
                assert isinstance(report.end, PieceDone)
                texts[report.id] = [one.text for one in report.end.segments]
        if not waiting and small.engine.idle:
            break
    assert texts == {id: text for id, text in alone.items() if id in texts} and set(texts) >= {0, 2, 3, 4}


def test_a_step_encodes_one_window_and_decodes_a_token_of_every_row(multilingual: Path) -> None:
    desk = Desk(multilingual, model=(model := Led(multilingual)))
    for id in range(3):
        desk.submit(id, request(30.0, 1, language="en"))
    for step in range(1, 5):
        desk.engine.step()
        assert model.listened == min(step, 3) and len(model.batches) == step
    assert model.batches == [1, 2, 3, 3]


def test_only_so_many_rows_are_decoded_as_memory_has_room_for(english: Path) -> None:
    desk = Desk(english, model=(model := Led(english)))
    expected = desk.ask(request(30.0, 1, language="en"))[0].segments
    for rows in (1, 2):
        model.batches.clear()
        desk.engine.resize(rows * model.row_bytes)
        found = desk.ask(*[request(30.0, 1, language="en")] * 3)
        assert [[one.text for one in each.segments] for each in found] == [[one.text for one in expected]] * 3
        assert max(model.batches) == rows


# -- prompts --------------------------------------------------------------------------------------------------------


def test_language_and_task_are_in_the_prompt(multilingual: Path) -> None:
    desk = Desk(multilingual, model=(model := Led(multilingual, script(multilingual, 0.0))))
    marks, languages = desk.vocabulary.marks, desk.vocabulary.languages
    desk.ask(request(language="yue"), request(language="fr", translate=True), request(language="en", context="Ada"))
    ada = desk.vocabulary.encode(" Ada")
    assert model.prompts == [
        (marks.start, languages["yue"], marks.transcribe),
        (marks.start, languages["fr"], marks.translate),
        (marks.previous, *ada, marks.start, languages["en"], marks.transcribe),
    ]


def test_a_language_that_is_not_given_is_heard_once(multilingual: Path) -> None:
    desk = Desk(multilingual, model=(model := Led(multilingual, script(multilingual, 0.0))))
    marks = desk.vocabulary.marks
    ended = desk.ask(request(translate=True))[0]
    assert model.prompts == [(marks.start,), (marks.start, desk.vocabulary.languages[ended.language], marks.translate)]
    assert model.listened == 1


def test_a_model_for_english_gets_neither_language_nor_task(english: Path) -> None:
    desk = Desk(english)
    desk.model = model = Led(english)
    desk.engine._model = model
    ended = desk.ask(request(30.0, 1))[0]
    assert ended.language == "en" and set(model.prompts) == {(desk.vocabulary.marks.start,)}


# -- windows --------------------------------------------------------------------------------------------------------


def test_text_comes_when_it_is_final_and_segments_have_the_models_times(english: Path) -> None:
    said = script(english, 0.2, " Hello,", 2.0, 2.4, " world", 3.5)
    led = Desk(english, model=Led(english, said))
    led.submit(0, request(4.0, language="en"))
    reports = led.run()[0]
    assert [type(report) for report in reports] == [runner_protocol.Said, runner_protocol.Finished]
    ended = done(reports)
    assert [(one.start, one.end, one.text) for one in ended.segments] == [(0.2, 2.0, " Hello,"), (2.4, 3.5, " world")]
    assert (ended.finish_reason, ended.usage.prompt_tokens) == ("stop", 1)
    assert ended.usage.completion_tokens == len(said)


def test_speech_that_a_window_leaves_unfinished_is_heard_in_another_that_begins_there(english: Path) -> None:
    said = script(english, 0.0, " Hello", 2.0, 2.0)
    led = Desk(english, model=(model := Led(english, said)))
    ended = led.ask(request(5.0, language="en"))[0]
    assert [(one.start, one.end) for one in ended.segments] == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]
    assert model.listened == 3 and ended.finish_reason == "stop" and ended.usage.prompt_tokens == 3


class Timed(Led):
    """Looks at so many steps for each token in turn, whatever it hears; `frames` are those of its windows."""

    def __init__(self, folder: Path, says: Sequence[int], steps: int) -> None:
        super().__init__(folder, says)
        self._steps = steps
        self.frames: list[int] = []

    def listen(self, features: np.ndarray) -> Cross:
        self.frames.append(len(features))
        return super().listen(features)

    def reread(self, prompt, text, end, crossed, steps):  # type: ignore[no-untyped-def]
        looked = np.zeros((1, len(prompt) + len(text) + 1, steps), np.float32)
        for place in range(len(text) + 1):  # what reads a token looks where it is heard, so a place before it
            begin = place * self._steps
            looked[0, len(prompt) - 1 + place, begin : begin + self._steps] = 1.0
        return np.ones(len(text)), looked


@promise("audio:whisper:rules")
@pytest.mark.parametrize(
    ("behind", "words", "windows"),
    [
        ([], True, "at the last word"),
        ([], False, "one"),
        ([5.0], True, "one"),  # it says when the last word ends
        ([5.0, 5.0], True, "at the last word"),
        ([5.0, 5.0], False, "at the time"),
    ],
)
def test_with_times_of_words_a_window_that_is_left_open_is_heard_on_from_its_last_word(
    english: Path, behind: list[float], words: bool, windows: str
) -> None:
    text = script(english, " Hello world")
    steps = 250 // len(text) + 1  # the last word ends a little behind five seconds
    model = Timed(english, [*script(english, 0.0), *text, *script(english, *behind)], steps)
    ended = Desk(english, model=model).ask(request(9.0, language="en", words=words))[0]
    last_word = 900 - 2 * steps * len(text)
    begun = {"one": [900], "at the last word": [900, last_word], "at the time": [900, 400]}[windows]
    assert model.frames[: len(begun)] == pytest.approx(begun, abs=8)
    assert (len(model.frames) > 1) == (windows != "one")
    times = [time for one in ended.segments for time in (one.start, one.end)]
    assert times == sorted(times)
    if words:
        assert [word.text for word in ended.segments[0].words] == ["Hello", "world"]


def test_a_window_that_met_its_limit_of_tokens_goes_on_where_it_got_to(english: Path) -> None:
    words = script(english, " what a lot of words")
    said = [*script(english, 0.0), *words, *script(english, 9.0, 9.0), *(words * 60)[: 224 - len(words) - 3]]
    led = Desk(english, model=(model := Led(english, said)))
    ended = led.ask(request(20.0, language="en"))[0]
    assert model.listened == 3 and ended.finish_reason == "stop"
    assert [(one.start, one.end) for one in ended.segments] == [(0.0, 9.0), (9.0, 18.0), (18.0, 20.0)]


def test_a_text_that_is_cut_is_said_to_be(english: Path) -> None:
    said = script(english, 0.0, " what a lot of words" * 60)
    ended = Desk(english, model=Led(english, said)).ask(request(20.0, language="en"))[0]
    assert (ended.finish_reason, ended.usage.completion_tokens) == ("length", 224)
    assert [(one.start, one.end) for one in ended.segments] == [(0.0, 20.0)]


def test_a_piece_that_never_comes_to_its_end_is_cut(english: Path) -> None:
    said = script(english, 0.0, " Hm", 0.4, 0.4)
    led = Desk(english, model=(model := Led(english, said)))
    ended = led.ask(request(20.0, language="en"))[0]
    assert model.listened == 8 and ended.finish_reason == "length"


def test_where_nothing_is_said_there_is_no_segment_and_no_text(english: Path) -> None:
    desk = Desk(english, model=Led(english, script(english, 0.0)))
    desk.submit(0, request())
    reports = desk.run()[0]
    assert len(reports) == 1 and done(reports).segments == () and done(reports).finish_reason == "stop"


def test_half_a_character_is_never_told(english: Path) -> None:
    table = parts(english)[1].table
    first, second, third = (next(id for id in range(300) if table.bytes_of(id) == bytes([b])) for b in "粵".encode())
    zero, one, two = script(english, 0.0, 1.0, 2.0)
    said = [zero, first, second, one, one, third, first, two]
    led = Desk(english, model=Led(english, said))
    ended = led.ask(request(3.0))[0]
    assert [one.text for one in ended.segments] == ["粵�"]


# -- what fails is tried again --------------------------------------------------------------------------------------


def test_a_repetitive_window_is_tried_again_hotter_and_said_once(english: Path) -> None:
    said = script(english, 0.0, " no" * 60, 5.0)
    led = Desk(english, model=(model := Led(english, said)))
    led.submit(0, led.preparer.write(request(5.0, language="en")))
    reports = led.run()[0]
    ended = done(reports)
    assert [type(report) for report in reports] == [runner_protocol.Said, runner_protocol.Finished]
    assert {one.temperature for one in ended.segments} == {1.0}
    assert ended.segments[0].compression_ratio is not None and ended.segments[0].compression_ratio > 2.4
    assert model.listened == 1 and len(model.prompts) == 1  # nothing is computed twice


def test_an_unlikely_window_is_tried_again_until_it_is_likely(english: Path) -> None:
    hello = script(english, 0.0, " Hello", 3.0)

    class Hesitant(Led):
        """Sure of itself from the third try on."""

        tries = 0

        def _led(self, logits: mx.array, wanted: int) -> mx.array:
            self.tries += wanted == self._marks.end
            self._doubt = 14.0 if self.tries < 2 else 40.0
            return super()._led(logits, wanted)

    led = Desk(english, model=Hesitant(english, hello))
    alone = led.ask(led.preparer.write(request(5.0, language="en")))[0]
    assert alone.segments and alone.segments[0].temperature in (0.0, 0.2, 0.4)


@pytest.mark.parametrize(("silence", "doubt", "heard"), [(0.9, 1.0, False), (0.9, 30.0, True), (0.3, 1.0, True)])
def test_silence_is_where_speech_and_text_are_both_unlikely(
    english: Path, silence: float, doubt: float, heard: bool
) -> None:
    said = script(english, 0.0, " Thanks for watching", 3.0)
    led = Desk(english, model=Led(english, said, silence=silence, doubt=doubt))
    led.submit(0, once(led.preparer.write(request(4.0, language="en"))))
    reports = led.run()[0]
    assert bool(done(reports).segments) == bool(text_of(reports)) == heard
    if heard:
        assert done(reports).segments[0].no_speech_prob == pytest.approx(silence, abs=0.01)


def test_draws_are_the_same_each_time(small: Desk) -> None:
    asked = request(8.0, 3, temperature=1.0, language="en")
    first, second = small.ask(asked)[0], small.ask(asked)[0]
    assert without_timings(first) == without_timings(second)
    cold = small.ask(request(8.0, 3, language="en"))[0]
    assert [one.text for one in cold.segments] != [one.text for one in first.segments]


def test_a_penalty_makes_repetition_rarer(desk: Desk) -> None:
    def most(penalty: float) -> float:
        found = desk.ask(request(30.0, 1, language="en", repetition_penalty=penalty))[0]
        return max((one.compression_ratio or 0) for one in found.segments)

    assert most(3.0) < most(1.0)


# -- credit, cancelling, failures -----------------------------------------------------------------------------------


def test_nothing_is_said_without_credit(english: Path) -> None:
    said = script(english, 0.0, " Hello", 2.0, 2.0)
    led = Desk(english, model=(model := Led(english, said)))
    led.submit(0, request(5.0, language="en"), credit=0)
    assert led.run() == {} and led.engine.idle and model.listened == 1
    led.engine.grant(0, 1)
    assert not led.engine.idle
    first = led.run()[0]
    assert [type(one) for one in first] == [runner_protocol.Said] and model.listened == 2
    led.engine.grant(0, 2)
    assert [type(one) for one in led.run()[0]] == [runner_protocol.Said, runner_protocol.Said, runner_protocol.Finished]
    led.engine.grant(0, 1)
    led.engine.grant(99, 1)


def test_a_cancelled_request_is_heard_of_no_more_and_others_go_on(small: Desk) -> None:
    expected = small.ask(request(9.0, 2, language="en"))[0].segments
    for steps in (0, 1, 4):
        for id in range(3):
            small.submit(id, request(9.0, id, language="en", words=True))
        early = [report for _ in range(steps) for report in small.engine.step()]
        small.engine.cancel(0)
        small.engine.cancel(1)
        reports = small.run()
        assert not early and set(reports) == {2}
        assert [one.text for one in done(reports[2]).segments] == [one.text for one in expected]


def test_a_window_that_cannot_be_encoded_fails_its_request_alone(english: Path) -> None:
    class Deaf(Led):
        def listen(self, features: np.ndarray) -> Cross:
            if len(features) == 500:
                raise RuntimeError("a secret")
            return super().listen(features)

    desk = Desk(english, model=Deaf(english))
    for id, seconds in enumerate((4.0, 5.0, 6.0)):
        desk.submit(id, request(seconds, language="en"))
    reports = desk.run()
    assert isinstance(error(reports[1]), InternalError) and "secret" not in str(error(reports[1]))
    assert done(reports[0]) and done(reports[2])


def test_logits_that_are_no_numbers_fail_their_row_alone(english: Path) -> None:
    class Broken(Led):
        def decode(self, tokens: Sequence[int], rows: Rows) -> mx.array:
            logits = super().decode(tokens, rows)
            if len(tokens) == 3:
                logits[1] = float("nan")
            return logits

    desk = Desk(english, model=Broken(english))
    for id in range(3):
        desk.submit(id, request(30.0, 1, language="en"))
    reports = desk.run()
    assert isinstance(error(reports[1]), InternalError)
    assert done(reports[0]).segments == done(reports[2]).segments != ()


def test_a_forward_pass_that_fails_ends_its_rows_and_the_engine_goes_on(english: Path) -> None:
    class Failing(Led):
        fails = True

        def decode(self, tokens: Sequence[int], rows: Rows) -> mx.array:
            if self.fails and len(tokens) == 2:
                self.fails = False
                raise RuntimeError("a secret")
            return super().decode(tokens, rows)

    desk = Desk(english, model=Failing(english))
    for id in range(3):
        desk.submit(id, request(30.0, 1, language="en"))
    reports = desk.run()
    assert isinstance(error(reports[0]), InternalError) and isinstance(error(reports[1]), InternalError)
    assert done(reports[2]).segments
    assert desk.ask(request(30.0, 1, language="en"))[0].segments


# -- choosing -------------------------------------------------------------------------------------------------------


def chosen(chooser: Chooser, rows: Sequence[np.ndarray], draws: Sequence[WhisperDraw]) -> list[WhisperChoice]:
    return chooser.choose(mx.array(np.stack(rows).astype(np.float32)), draws)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=4), st.booleans(), st.sampled_from([0.0, 0.5, 1.0]))
def test_only_what_is_allowed_is_chosen_and_each_row_for_itself(
    desk: Desk, seeds: list[int], text: bool, temperature: float
) -> None:
    marks, chooser = desk.vocabulary.marks, Chooser(desk.vocabulary)
    size = desk.model.vocabulary_size
    rows = [np.random.default_rng(seed).normal(size=size) * 5 for seed in seeds]
    draws = [WhisperDraw(Allowed(text, not text, seed % 1400, 1400 + seed % 100), temperature, seed) for seed in seeds]
    together = chosen(chooser, rows, draws)
    for row, draw, choice in zip(rows, draws, together, strict=True):
        assert choice.token == chosen(chooser, [row], [draw])[0].token
        assert choice.logprob <= 0
        if choice.token < marks.end:
            assert text and desk.vocabulary.speakable()[choice.token]
        elif choice.token == marks.end:
            assert not text
        else:
            assert draw.allowed.first <= choice.token - marks.first_time < draw.allowed.last


def test_times_that_are_likelier_together_than_any_word_win(desk: Desk) -> None:
    marks, chooser = desk.vocabulary.marks, Chooser(desk.vocabulary)
    logits = np.full(desk.model.vocabulary_size, -20.0)
    word = desk.vocabulary.encode("a")[0]
    logits[word] = 2.0
    logits[marks.first_time + 100 : marks.first_time + 110] = 0.0
    everything = Allowed(True, True, 0, marks.times)
    assert chosen(chooser, [logits], [WhisperDraw(everything)])[0].token == marks.first_time + 100
    later = WhisperDraw(Allowed(True, True, 106, marks.times))  # what may not follow has no weight
    assert chosen(chooser, [logits], [later])[0].token == word


def test_likelihoods_are_those_of_float64(desk: Desk) -> None:
    marks, chooser = desk.vocabulary.marks, Chooser(desk.vocabulary)
    row = np.random.default_rng(3).normal(size=desk.model.vocabulary_size) * 3
    row[marks.first_time :] = -50
    masked = row.copy()
    masked[: marks.end][~np.array(desk.vocabulary.speakable())] = -np.inf
    masked[marks.end + 1 : marks.first_time] = -np.inf
    expected = masked - np.log(np.exp(masked - masked.max()).sum()) - masked.max()
    choice = chosen(chooser, [row], [WhisperDraw(Allowed(True, True, 0, marks.times))])[0]
    assert choice.token == masked.argmax() and choice.logprob == pytest.approx(expected.max(), abs=1e-5)


def test_hot_draws_follow_the_models_likelihoods(desk: Desk) -> None:
    chooser = Chooser(desk.vocabulary)
    logits = np.full(desk.model.vocabulary_size, -100.0)
    often, seldom = (desk.vocabulary.encode(one)[0] for one in "ab")
    logits[often], logits[seldom] = np.log(0.75), np.log(0.25)
    words = Allowed(True, False, 0, 0)
    draws = [WhisperDraw(words, 1.0, token_choice.seed_of(5, 1, place)) for place in range(200)]
    tokens = [
        one.token for part in range(0, 200, 50) for one in chosen(chooser, [logits] * 50, draws[part : part + 50])
    ]
    assert set(tokens) == {often, seldom} and 120 < tokens.count(often) < 180


def test_penalised_tokens_are_less_likely_whatever_their_sign(desk: Desk) -> None:
    chooser = Chooser(desk.vocabulary)
    words = rules.Allowed(True, False, 0, 0)
    first, second = (desk.vocabulary.encode(one)[0] for one in "ab")
    for sign in (1.0, -1.0):
        logits = np.full(desk.model.vocabulary_size, -100.0)
        logits[first], logits[second] = 3.0 * sign + 0.1, 3.0 * sign
        assert chosen(chooser, [logits], [WhisperDraw(words)])[0].token == first
        assert chosen(chooser, [logits], [WhisperDraw(words, penalised=(first,), penalty=1.5)])[0].token == second


def test_the_same_is_heard_where_turns_are_taken(multilingual: Path) -> None:
    asked = [request(3.0), request(30.0, seed=1)]
    expected = Desk(multilingual).ask(*asked)
    with tempfile.TemporaryFile() as file:
        lock = DeviceLock(file.fileno())
        lock.share(True, yields=True)
        heard = Desk(multilingual, model=models.load(multilingual, lock)).ask(*asked)
    assert [[one.text for one in piece.segments] for piece in heard] == [
        [one.text for one in piece.segments] for piece in expected
    ]


def test_a_window_that_is_encoded_in_parts_is_the_one_that_is_encoded_whole(multilingual: Path) -> None:
    class Hurried(DeviceLock):
        def pause(self) -> float:
            return 1.0

        def left(self) -> float:
            return next(left)

    features = np.random.default_rng(5).standard_normal((FRAMES - 700, models.load(multilingual).bins), np.float32)
    expected = models.load(multilingual).listen(features)
    hurried = Hurried(-1)
    hurried.share(True, yields=True)
    for lefts in ((0.0,), (3.0, 1.0, 7.0, 2.0)):
        left = itertools.cycle(lefts)
        heard = models.load(multilingual, hurried).listen(features)
        for layer, whole in zip(heard, expected, strict=True):
            for part, all_ in zip(layer, whole, strict=True):
                assert np.allclose(np.array(part), np.array(all_), rtol=1e-4, atol=1e-4)
