"""A kind of model that repeats the question, a word a step. As a program it is a runner that knows this kind too."""

from pathlib import Path

from engines.models.kv_size import KvSize
from engines.models.registry import ARCHITECTURES, Architecture
from engines.runner import main
from engines.runner.device_lock import DeviceLock
from engines.runner.patience import Patience
from engines.types.chat import ChatRequest
from tests.engines.runner.echo_engine import EchoEngine, Words

ECHO = Architecture(
    model_types=frozenset({"echo"}),
    capability="chat",
    loader="tests.engines.models.echo_kind",
    kv_size=lambda folder, config: KvSize(0, 0),
    missing=lambda folder: [],
    defaults={"parrot": "toys/parrot"},
)


class EchoPreparer:
    context_length = 64

    def write(self, request: ChatRequest, patience: Patience | None = None) -> Words:
        words = request.messages[-1].text.split()
        return Words(words, len(words), len(words))


def preparer(folder: Path, context_limit: int) -> EchoPreparer:
    return EchoPreparer()


def engine(folder: Path, kv_bytes: int, lock: DeviceLock | None = None) -> EchoEngine:
    return EchoEngine()


if __name__ == "__main__":
    main.main((*ARCHITECTURES, ECHO))
