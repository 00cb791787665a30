"""A kind of model that repeats the question, a word a step. As a program it is a runner that knows this kind too."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engines.ipc.runner_protocol import Finished, Said
from engines.models.kv_size import KvSize
from engines.models.registry import ARCHITECTURES, Architecture
from engines.runner import main
from engines.runner.device_lock import Turns
from engines.runner.patience import Patience
from engines.types.chat import ChatRequest, Delta, Done
from engines.types.common import Timings, Usage

ECHO = Architecture(
    model_types=frozenset({"echo"}),
    capability="chat",
    loader="tests.engines.models.echo_kind",
    kv_size=lambda folder, config: KvSize(0, 0),
    missing=lambda folder: [],
    defaults={"parrot": "toys/parrot"},
)


class Row(msgspec.Struct):
    words: list[str]
    prompt_tokens: int
    max_tokens: int
    credit: int = 0


class EchoPreparer:
    context_length = 64

    def write(self, request: ChatRequest, patience: Patience | None = None) -> Row:
        words = request.messages[-1].content.split()
        return Row(words, len(words), len(words))


class EchoEngine:
    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}

    @property
    def idle(self) -> bool:
        return not any(row.credit for row in self._rows.values())

    def submit(self, id: int, prepared: Row, credit: int) -> None:
        self._rows[id] = prepared
        self.grant(id, credit)

    def grant(self, id: int, deltas: int) -> None:
        if id in self._rows:
            self._rows[id].credit += deltas

    def cancel(self, id: int) -> None:
        self._rows.pop(id, None)

    def resize(self, kv_bytes: int) -> None:
        """Nothing is kept between steps."""

    def step(self) -> Sequence[Said | Finished]:
        return [self._advance(id, row) for id, row in list(self._rows.items()) if row.credit]

    def _advance(self, id: int, row: Row) -> Said | Finished:
        if row.words:
            row.credit -= 1
            return Said(id, Delta(f"{row.words.pop(0)} "))
        self.cancel(id)
        return Finished(id, Done("stop", Usage(row.prompt_tokens, row.max_tokens), Timings(0.0, 0.0, 0.0)))


def preparer(folder: Path, context_limit: int) -> EchoPreparer:
    return EchoPreparer()


def engine(folder: Path, kv_bytes: int, turns: Turns | None = None) -> EchoEngine:
    return EchoEngine()


if __name__ == "__main__":
    main.main((*ARCHITECTURES, ECHO))
