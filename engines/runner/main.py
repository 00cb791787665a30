"""The runner: a process that owns one checkpoint, and MLX on its main thread.

More threads serve the main one: a reader (fills the inbox; ends the process at end of file, because macOS has no
parent-death signal and a load lasts seconds), two of a helper (tokenizer and template: `Open`, `Prepare`) and a writer.
What the writer holds is bounded by the credit of each request. Started as `python -P -m engines.runner.main FD TURNS`.
"""

import ctypes
import ctypes.util
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.host import descriptors
from engines.host.system import Host
from engines.ipc import device_fault, job, runner_protocol
from engines.models.registry import ARCHITECTURES, Architectures
from engines.runner import lean_imports
from engines.runner.device_lock import DeviceLock
from engines.runner.helper import ForHelper, ForHelperAlone, Helper
from engines.runner.loaders import Loaders
from engines.types.errors import CheckpointUnusable, Failure, LoadFailed, ServiceError

if TYPE_CHECKING:
    from engines.runner.engine import Engine

BEAT_SECONDS = 0.25
RECEIVE_BYTES = 1 << 16
# 2^16 cycles, 25 µs. Its own 2^26 lets a thread yield in a loop from one product to the next, which costs a third more
# processor, and on two cores kept the server's process from its turn for up to 0.4 s.
OPENBLAS_PATIENCE = "16"
# glibc's malloc: arrays up to this size come from the heap, of which so much stays when it is free. Pages fresh from
# the system cost more than copying into them: that a row leaves a batch of 16 takes 3 ms, not 20.
HEAP_BYTES = 256 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

Reports = Sequence[runner_protocol.Report]
log = logging.getLogger("runner")


def prefer_openblas(host: Host) -> None:
    """On Linux, put OpenBLAS before the BLAS that MLX brings: 20 to 50 times faster in float32; absent means slow."""
    if not host.loads_openblas:
        return
    name = ctypes.util.find_library("openblas")
    if name:
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", OPENBLAS_PATIENCE)
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)


def keep_heap(host: Host) -> None:
    """On Linux, keep freed memory for the next arrays: on the processor, MLX leaves that to the C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if host.tunes_malloc else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, HEAP_BYTES)
        mallopt(M_TRIM_THRESHOLD, HEAP_BYTES)


class StepLoop:
    """The main thread: take what arrived, step once, send what came out."""

    def __init__(
        self, helper: Helper, outbox: "queue.SimpleQueue[Reports]", lock: DeviceLock, loaders: Loaders
    ) -> None:
        self.inbox: queue.SimpleQueue[runner_protocol.Command] = queue.SimpleQueue()
        self._helper = helper
        self._outbox = outbox
        self._lock = lock
        self._loaders = loaders
        self._engine: Engine[Any] | None = None
        self._folder = Path()
        self._steps = 0
        self._slowest = 0.0
        self._beaten = 0.0

    def run(self) -> None:
        while True:
            if self._engine is None or self._engine.idle:
                self._take(self.inbox.get())
            while not self.inbox.empty():
                self._take(self.inbox.get_nowait())
            if self._engine is not None and not self._engine.idle:
                self._step(self._engine)

    def _take(self, command: runner_protocol.Command) -> None:
        match command:
            case runner_protocol.Open():
                self._folder = Path(command.folder)
            case runner_protocol.Load():
                self._load(command)
            case runner_protocol.Submit():
                self._submit(command)
            case runner_protocol.Resize() if self._engine is not None:
                self._resize(self._engine, command)
            case job.Cancel() if self._engine is not None:
                self._engine.cancel(command.id)
            case job.Ping():
                self._send([self._beat()])
            case job.Credit() if self._engine is not None:
                self._engine.grant(command.id, command.count)

    def _load(self, command: runner_protocol.Load) -> None:
        from engines.runner.generation import model as models

        began = time.monotonic()
        try:
            models.set_limits(command.lease_bytes)
            models.set_wired_limit(command.wired_bytes)
            self._engine = self._loaders.engine(self._folder, command.kv_bytes, self._lock)
        except ServiceError as error:
            self._outbox.put([runner_protocol.LoadingFailed(Failure.of(error))])
        except Exception as cause:
            log.exception("%s can't be loaded", self._folder)
            self._outbox.put([runner_protocol.LoadingFailed(Failure.of(_load_error(cause)))])
        else:
            self._outbox.put([runner_protocol.Loaded(time.monotonic() - began, models.active_bytes())])

    def _resize(self, engine: "Engine[Any]", command: runner_protocol.Resize) -> None:
        from engines.runner.generation import model as models

        engine.resize(command.kv_bytes)
        models.set_limits(command.lease_bytes)
        models.release()

    def _submit(self, command: runner_protocol.Submit) -> None:
        prepared = self._helper.take(command.id)
        if prepared is not None and self._engine is not None:
            self._engine.submit(command.id, prepared, command.credit)

    def _step(self, engine: "Engine[Any]") -> None:
        from engines.runner.generation import model as models

        with self._lock.step():
            began = time.monotonic()
            reports = list(engine.step())
            if self._lock.shared:  # a pass that was begun ahead is computed with the lock; what is known is sent
                self._send(reports)
                reports = []
                models.synchronize()
        now = time.monotonic()
        self._steps += 1
        self._slowest = max(self._slowest, now - began)
        beat: list[runner_protocol.Beat] = []
        if now - self._beaten >= BEAT_SECONDS or engine.idle:
            self._beaten = now
            beat.append(self._beat())
        self._send([*reports, *beat])

    def _beat(self) -> runner_protocol.Beat:
        from engines.runner.generation import model as models

        return runner_protocol.Beat(self._steps, self._slowest, models.active_bytes(), models.peak_bytes())

    def _send(self, reports: Reports) -> None:
        if reports:
            self._outbox.put(reports)


def _load_error(cause: Exception) -> ServiceError:
    """A checkpoint that doesn't fit together fails each time; what the machine couldn't do, it may do later."""
    what = type(cause).__name__
    if isinstance(cause, OSError | MemoryError | RuntimeError) and not isinstance(cause, NotImplementedError):
        return LoadFailed(f"The checkpoint can't be loaded ({what}); the server's log says why.")
    return CheckpointUnusable(
        f"The checkpoint can't be run: its weights and its config.json don't make a model that is known here ({what}: "
        f"{str(cause)[:300]}). Fetch it again, or another one."
    )


def read(link: socket.socket, helper: Helper, loop: StepLoop, lock: DeviceLock) -> None:
    """The reader's thread. The end of the server, or of its patience with us, is the end of this process."""
    decoder: runner_protocol.FrameDecoder[runner_protocol.Command] = runner_protocol.FrameDecoder(
        runner_protocol.Command
    )
    try:
        while data := link.recv(RECEIVE_BYTES):
            for command in decoder.feed(data):
                if isinstance(command, runner_protocol.ShareDevice):
                    lock.share(command.shared, command.yields)  # also in mid-step
                if isinstance(command, ForHelper):
                    helper.put(command)
                if not isinstance(command, ForHelperAlone | runner_protocol.ShareDevice):
                    loop.inbox.put(command)
    finally:
        os._exit(0)


def write(link: socket.socket, outbox: "queue.SimpleQueue[Reports]") -> None:
    """The writer's thread. What belongs together, all of a step's, goes out at once: it wakes the server once."""
    while True:
        link.sendall(b"".join(map(runner_protocol.encode, outbox.get())))


def main(architectures: Architectures = ARCHITECTURES) -> None:
    """Never returns: the process ends with its link."""
    os.dup2(2, 1)  # what libraries print belongs to the log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s runner[%(process)d] %(levelname)s %(message)s")
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    host = Host()
    prefer_openblas(host)
    keep_heap(host)
    outbox: queue.SimpleQueue[Reports] = queue.SimpleQueue()
    loaders = Loaders(architectures)
    helper = Helper(outbox, loaders)
    lock = DeviceLock(int(sys.argv[2]))
    loop = StepLoop(helper, outbox, lock, loaders)
    # Before the slow imports: an end of file during them must end the process as well.
    threading.Thread(target=read, args=(link, helper, loop, lock), daemon=True).start()
    threading.Thread(target=write, args=(link, outbox), daemon=True).start()

    descriptors.raise_limit()
    with descriptors.kept(), lean_imports.without():
        loaders.import_all()
    from engines.runner.generation import model as models

    outbox.put([runner_protocol.Hello(os.getpid(), models.device_name(), models.device_bytes())])
    helper.start()
    status = 1
    try:
        loop.run()
    except Exception as error:
        status = device_fault.STATUS if device_fault.is_device_fault(error) else 1
        log.exception("the runner's loop failed")
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
