"""An engine and what its requests said, step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from engines.ipc import runner_protocol
from engines.runner.generation.engine import DecodingEngine
from engines.runner.generation.prompt import Prompt
from engines.types.chat import Delta, Sampling

GREEDY = Sampling(temperature=0.0)
PLENTY = 10_000


@dataclass
class RecordedOutput:
    """What came of one request."""

    text: str = ""
    logprobs: list[tuple[int, float | None]] = field(default_factory=list)
    deltas: int = 0
    reason: str = ""
    failed: bool = False


class EngineRecorder:
    """An engine, and what its requests said."""

    def __init__(self, engine: DecodingEngine) -> None:
        self.engine = engine
        self.heard: dict[int, RecordedOutput] = {}

    def submit(self, id: int, prompt: Prompt, credit: int = PLENTY) -> None:
        self.heard[id] = RecordedOutput()
        self.engine.submit(id, prompt, credit)

    def step(self) -> None:
        for report in self.engine.step():
            heard = self.heard[report.id]
            match report:
                case runner_protocol.Said(_, Delta() as delta):
                    heard.text += delta.text
                    heard.logprobs += [(one.id, one.logprob) for one in delta.logprobs]
                    heard.deltas += 1
                case runner_protocol.Finished(_, end):
                    heard.reason = str(getattr(end, "finish_reason", ""))
                case _:
                    heard.failed = True

    def until(self, met: Callable[[], bool]) -> None:
        for _ in range(1000):
            if met():
                return
            self.step()
        raise AssertionError("this never happens")

    def end(self) -> None:
        self.until(lambda: self.engine.idle)


def prompt_of(length: int, max_tokens: int = 24, sampling: Sampling = GREEDY) -> Prompt:
    return Prompt(tuple(300 + (7 * length + 13 * place) % 600 for place in range(length)), max_tokens, sampling)
