import json

from demo.voice_checkpoints import KINDS, WEIGHTS
from training.voice_weights import measured


def test_the_table_of_weights_is_what_the_library_has() -> None:
    assert json.loads(WEIGHTS.read_text(encoding="utf-8")) == {kind: measured(kind) for kind in KINDS}
