"""The smallest engine: it says words, one of each row a step."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from engines.ipc.runner_protocol import Finished, Said
from engines.runner.row_engine import Report, RowEngine, guarded_row
from engines.types.chat import Delta, Done
from engines.types.common import Timings, Usage


@dataclass
class Words:
    words: list[str]
    prompt_tokens: int = 1
    max_tokens: int = 100


@dataclass(eq=False)
class EchoRow:
    id: int
    credit: int
    words: list[str]
    trace: str = "-"


class EchoEngine(RowEngine[EchoRow]):
    def __init__(self) -> None:
        self._rows: list[EchoRow] = []

    @property
    def rows(self) -> Sequence[EchoRow]:
        return self._rows

    @property
    def idle(self) -> bool:
        return not any(row.credit > 0 for row in self._rows)

    def submit(self, id: int, prepared: Words, credit: int) -> None:
        self._rows.append(EchoRow(id, credit, [*prepared.words]))

    def drop(self, rows: Collection[EchoRow]) -> None:
        self._rows = [row for row in self._rows if row not in rows]

    def resize(self, kv_bytes: int) -> None:
        pass

    def step(self) -> Sequence[Report]:
        reports: list[Report] = []
        for row in [row for row in self._rows if row.credit > 0]:
            said, over = guarded_row(row, partial(self._advance, row))
            reports += said
            if over:
                self.drop([row])
        return reports

    def _advance(self, row: EchoRow) -> tuple[list[Report], bool]:
        word = row.words.pop(0)
        if word == "explode":
            raise ValueError("as it was asked to")
        row.credit -= 1
        said = Said(row.id, Delta(text=f"{word} "))
        if row.words:
            return [said], False
        return [said, Finished(row.id, Done("stop", Usage(1, 1), Timings(0.0, 0.0, 0.0)))], True
