"""What the audio part makes of answers."""

from pathlib import Path

import psutil
import pytest

from bench.contenders import servers
from bench.contenders.names import AUDIO_SERVER, LIBRARY, OURS
from bench.contenders.protocol import AudioContender
from bench.goals import AUDIO_GOALS, judge
from bench.libraries.jobs import AudioAnswer
from bench.parts import audio
from bench.peak import Peak
from bench.scale import FULL, QUICK
from bench.session import BenchSession
from bench.streams import BenchFailed
from engines.synthesis.duration_check import judge as judged


@pytest.fixture
def session(tmp_path: Path) -> BenchSession:
    return BenchSession(QUICK, rounds=1, threads=1, work=tmp_path)


def test_several_requests_take_from_the_first_question_to_the_last_answer() -> None:
    assert audio.elapsed([AudioAnswer(1.0, 2.0, 3.0), AudioAnswer(1.5, 2.0, 4.5)]) == 3.5


def test_another_text_is_a_note_and_another_length_of_sound_an_error(session: BenchSession) -> None:
    audio._compare(session, "whisper", OURS, [AudioAnswer(0, 1, 1, " one  two")], [AudioAnswer(0, 1, 1, "one two")])
    assert session.notes == []
    audio._compare(session, "whisper", OURS, [AudioAnswer(0, 1, 1, "one two")], [AudioAnswer(0, 1, 1, "one")])
    assert len(session.notes) == 1
    with pytest.raises(BenchFailed):
        audio._compare(session, "qwen3-tts", OURS, [AudioAnswer(0, 1, 1, sound=4.8)], [AudioAnswer(0, 1, 1, sound=9.6)])


def test_texts_are_as_long_as_the_models_speak_so_that_no_try_is_thrown_away(tmp_path: Path) -> None:
    for scale in (FULL, QUICK):
        recordings = audio.AudioSamples(BenchSession(scale, 1, 1, tmp_path))
        texts = recordings.texts(4)
        assert len(set(texts)) == 4
        for text in texts:
            seconds = scale.audio.frames / 12.5
            assert judged(text, seconds, 0.1, capped=False, instructed=False) == "whole"


def test_lengths_are_told_in_words() -> None:
    assert [audio.length(seconds) for seconds in (20.0, 60.0, 3600.0, 36_000.0)] == [
        "20 seconds",
        "1 minute",
        "1 hour",
        "10 hours",
    ]


def test_every_goal_of_the_part_is_judged_by_figures_that_it_measures() -> None:
    keys = {goal.over.key for goal in AUDIO_GOALS}
    values = {key: {OURS: [1.0], LIBRARY: [1.0]} for key in keys}
    assert {one.verdict for one in judge(AUDIO_GOALS, values)} == {"pass"}


def test_the_peak_stays_when_there_is_less() -> None:
    peak = Peak()
    peak.look(psutil.Process())
    assert peak.bytes > 1e6
    peak.bytes = most = 1 << 50
    peak.look(psutil.Process())
    assert peak.bytes == most


def test_somebody_elses_server_that_fails_is_no_longer_asked(session: BenchSession) -> None:
    up: dict[str, AudioContender] = {}
    for name in (OURS, AUDIO_SERVER):
        up[name] = servers.ours(session.small, 1, session.logs)
    with audio._leaving_out(session, up, OURS):
        pass
    with audio._leaving_out(session, up, AUDIO_SERVER):
        raise BenchFailed("it is gone")
    assert list(up) == [OURS]
    assert session.notes == ["mlx-audio.server was left out: it is gone"]
    with pytest.raises(BenchFailed), audio._leaving_out(session, up, OURS):
        raise BenchFailed("ours is gone")
