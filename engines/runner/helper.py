"""A runner's tokenizer work, beside its main thread: prompts wait here, prepared, until that takes them.

There are two lanes, each a thread: what is long goes by its own, so that no other request of the model waits for it.
Who leaves is known at once, and what was being made ready for him ends at its next check.
"""

import logging
import queue
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines.ipc import job, runner_protocol
from engines.runner.engine import Adjusting, PreparedPrompt, Preparer, TokenizingPreparer
from engines.runner.loaders import Loaders
from engines.runner.patience import Abandoned, Patience
from engines.types.chat import ChatRequest, CompletionRequest, Tokenized
from engines.types.errors import CheckpointUnusable, Failure, InternalError, ServiceError, WrongCapability

ForHelperAlone = runner_protocol.Prepare | runner_protocol.Tokenize | runner_protocol.Detokenize
ForHelper = ForHelperAlone | runner_protocol.Open | job.Cancel

LONG = 64 * 1024  # characters; a few hundredths of a second

log = logging.getLogger("runner")


class Helper:
    """`put` and `take` may be called from any thread."""

    def __init__(self, outbox: "queue.SimpleQueue[Sequence[runner_protocol.Report]]", loaders: Loaders) -> None:
        self._outbox = outbox
        self._loaders = loaders
        self._lanes: tuple[queue.SimpleQueue[ForHelper], ...] = (queue.SimpleQueue(), queue.SimpleQueue())
        self._preparer: Preparer[Any, Any] | None = None
        self._lock = threading.Lock()
        self._asked: set[int] = set()  # not answered yet, and still wanted
        self._prepared: dict[int, PreparedPrompt] = {}

    def start(self) -> None:
        for lane in self._lanes:
            threading.Thread(target=self._run, args=(lane,), daemon=True).start()

    def put(self, command: ForHelper) -> None:
        match command:
            case job.Cancel():
                with self._lock:
                    self._asked.discard(command.id)
                    self._prepared.pop(command.id, None)
            case runner_protocol.Open():
                self._lanes[0].put(command)
            case _:
                with self._lock:
                    self._asked.add(command.id)
                self._lanes[_length(command) > LONG].put(command)

    def take(self, id: int) -> PreparedPrompt | None:
        """The prepared request; None when it was cancelled meanwhile."""
        with self._lock:
            return self._prepared.pop(id, None)

    def _run(self, lane: "queue.SimpleQueue[ForHelper]") -> None:
        while True:
            command = lane.get()
            if isinstance(command, runner_protocol.Open):
                self._open(command)
            elif not isinstance(command, job.Cancel):
                self._answer(command)

    def _open(self, command: runner_protocol.Open) -> None:
        try:
            self._preparer = self._loaders.preparer(Path(command.folder), command.context_limit)
        except ServiceError as error:
            self._outbox.put([runner_protocol.OpenFailed(Failure.of(error))])
        except Exception:
            log.exception("the tokenizer of %s can't be read", command.folder)
            unusable = CheckpointUnusable("The model's tokenizer or template can't be read; the log says why.")
            self._outbox.put([runner_protocol.OpenFailed(Failure.of(unusable))])
        else:
            self._outbox.put([runner_protocol.Opened(self._preparer.context_length)])

    def _answer(self, command: ForHelperAlone) -> None:
        patience = Patience(lambda: command.id in self._asked)
        try:
            patience.check()
            if self._preparer is None:
                raise InternalError("The model's tokenizer isn't open.")
            report = self._report(self._preparer, command, patience)
        except Abandoned:
            return
        except ServiceError as error:
            report = job.Failed(command.id, Failure.of(error))
        except Exception:
            trace = "-" if isinstance(command, runner_protocol.Detokenize) else command.request.trace
            log.exception("request %s can't be prepared", trace)
            unexpected = InternalError("The request could not be prepared; the server's log says why.")
            report = job.Failed(command.id, Failure.of(unexpected))
        with self._lock:
            self._asked.discard(command.id)
        self._outbox.put([report])

    def _report(
        self, preparer: Preparer[Any, Any], command: ForHelperAlone, patience: Patience
    ) -> runner_protocol.Report:
        match command:
            case runner_protocol.Prepare():
                prepared = preparer.write(command.request, patience)
                with self._lock:
                    if command.id not in self._asked:
                        raise Abandoned
                    self._prepared[command.id] = prepared
                adjusted = prepared.adjusted if isinstance(prepared, Adjusting) else ()
                return runner_protocol.Prepared(command.id, prepared.prompt_tokens, prepared.max_tokens, adjusted)
            case _ if not isinstance(preparer, TokenizingPreparer):
                raise WrongCapability("This model doesn't read or write text alone.", param="model")
            case runner_protocol.Tokenize():
                ids = preparer.ids_of(command.request, patience)
                return runner_protocol.Tokens(command.id, Tokenized(ids, preparer.context_length))
            case runner_protocol.Detokenize():
                return runner_protocol.Detokenized(command.id, preparer.text_of(command.tokens))


def _length(command: ForHelperAlone) -> int:
    """How much there is to read, in characters, as far as it may be much."""
    if isinstance(command, runner_protocol.Detokenize):
        return len(command.tokens)
    match command.request:
        case ChatRequest(messages=messages, tools=tools):
            said = (len(message.text) + len(message.reasoning) for message in messages)
            called = (len(call.arguments) for message in messages for call in message.tool_calls)
            return sum(said) + sum(called) + sum(len(tool.description) for tool in tools)
        case CompletionRequest(prompt=prompt):
            return len(prompt)
        case _:
            return 0
