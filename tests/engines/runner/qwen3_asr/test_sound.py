import mlx.core as mx
from hypothesis import given
from hypothesis import strategies as st
from mlx_audio.stt.models.qwen3_asr.qwen3_asr import _get_feat_extract_output_lengths

from engines.runner.qwen3_asr.sound import FRAMES, stretches, tokens_of


def test_frames_become_as_many_tokens_as_in_the_library() -> None:
    frames = range(1, 1700)
    assert [tokens_of(count) for count in frames] == _get_feat_extract_output_lengths(mx.array([*frames])).tolist()


@given(st.integers(1, 20_000), st.integers(1, 8).map(lambda seconds: seconds * FRAMES))
def test_stretches_cover_all_frames_in_order_and_each_but_the_last_is_a_window(frames: int, window: int) -> None:
    found = stretches(frames, window)
    assert [stretch.begin for stretch in found] == [0, *(stretch.end for stretch in found[:-1])]
    assert found[-1].end == frames
    assert all(stretch.end - stretch.begin == window for stretch in found[:-1])
    assert found[-1].end - found[-1].begin < window + FRAMES
    assert sum(stretch.tokens for stretch in found) == tokens_of(frames)
    assert frames < FRAMES or found[-1].end - found[-1].begin >= FRAMES
