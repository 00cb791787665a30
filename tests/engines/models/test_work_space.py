import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.models.config import text_config
from engines.models.prefill_limits import SCORE_BYTES, gpu_limits
from engines.models.work_space import LEAST, work_space

QWEN3_14B = {
    "hidden_size": 5120,
    "intermediate_size": 17408,
    "vocab_size": 151936,
    "num_attention_heads": 40,
    "head_dim": 128,
}
GEMMA3_12B = {
    "hidden_size": 3840,
    "intermediate_size": 15360,
    "vocab_size": 262208,
    "num_attention_heads": 16,
    "head_dim": 256,
}


@pytest.mark.parametrize(("config", "megabytes"), [(QWEN3_14B, 391), (GEMMA3_12B, 860)])
def test_the_work_space_of_a_published_model_on_a_gpu(config: dict[str, object], megabytes: int) -> None:
    assert work_space(config, on_gpu=True) >> 20 == megabytes


def test_attention_that_isnt_fused_needs_room_for_its_scores() -> None:
    fused = GEMMA3_12B | {"head_dim": 128}
    assert work_space(GEMMA3_12B, True) - work_space(fused, True) == 2 * SCORE_BYTES


def test_what_a_configuration_doesnt_say_leaves_the_least() -> None:
    assert work_space({}, True) == work_space({"hidden_size": "wide", "vocab_size": -1}, False) == LEAST


@given(st.dictionaries(st.sampled_from(sorted(QWEN3_14B)), st.integers(1, 1 << 20)), st.booleans())
def test_it_is_never_less_than_the_least(config: dict[str, object], on_gpu: bool) -> None:
    assert work_space(config, on_gpu) >= LEAST


def test_gemma_3_needs_it_though_its_published_configuration_leaves_out_its_heads() -> None:
    config = {"model_type": "gemma3", "text_config": {"hidden_size": 2560, "intermediate_size": 10240}}
    assert gpu_limits(text_config(config)).score_bytes == 2 * 8
