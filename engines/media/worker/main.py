"""The media process: files of strangers are parsed here, where a crash or a bomb costs a request and no service.

Started as `python -P -m engines.media.worker.main FD`; it ends at the end of file of its socket. The main thread reads
commands, every job has a thread, one thread writes.
"""

import contextlib
import ctypes
import logging
import os
import queue
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable

from engines.host.footprint import used_bytes
from engines.host.system import Host
from engines.ipc.job import Failed, Ping

RECEIVE_BYTES = 1 << 18
MOST_WAITING = 32  # reports; jobs wait when the server doesn't take them
MOST_ADDRESSES = 6 << 30  # bytes of address space, on Linux: what can't be had is a MemoryError of one job
MOST_MEMORY = 3 << 30  # bytes that are really used, anywhere: beyond, the process ends itself
GUARD_SECONDS = 0.25
# One thread for each product of matrices: OpenBLAS, and Accelerate, which is numpy's on macOS.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
M_ARENA_MAX = -8

log = logging.getLogger("media")


def set_limits(host: Host) -> None:
    """No core files; where the system obeys it, a limit on memory; freed memory is given back."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if host.limits_address_space:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    if host.tunes_malloc:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def guard_memory(used: Callable[[], int]) -> None:
    """A thread's work: end the process when it uses more bytes than it may, which macOS doesn't do for us."""
    while used() < MOST_MEMORY:
        time.sleep(GUARD_SECONDS)
    log.error("more than %d bytes of memory are used", MOST_MEMORY)
    os._exit(1)


def main() -> None:
    """Never returns: the process ends with its link."""
    os.dup2(2, 1)  # what libraries print belongs to the log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s media[%(process)d] %(levelname)s %(message)s")
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    for library in BLAS_THREADS:
        os.environ[library] = "1"
    host = Host()
    set_limits(host)
    threading.Thread(target=guard_memory, args=(used_bytes(host),), daemon=True).start()
    serve(link)


def serve(link: socket.socket) -> None:
    import av.logging

    from engines.ipc import media_protocol
    from engines.ipc.runner_protocol import FrameDecoder, encode
    from engines.media.worker.jobs import MediaJob

    av.logging.set_level(None)  # the library's own lines: one file may cause a million of them
    outbox: queue.Queue[media_protocol.Report] = queue.Queue(MOST_WAITING)
    jobs: dict[int, MediaJob] = {}

    def write() -> None:
        while True:
            report = outbox.get()
            if isinstance(report, media_protocol.Ended | Failed | media_protocol.Dropped):
                jobs.pop(report.id, None)
            link.sendall(encode(report))

    threading.Thread(target=write, daemon=True).start()
    decoder: FrameDecoder[media_protocol.Command] = FrameDecoder(media_protocol.Command)
    try:
        while data := link.recv(RECEIVE_BYTES):
            for command in decoder.feed(data):
                if isinstance(command, media_protocol.Split | media_protocol.Clip | media_protocol.Encode):
                    jobs[command.id] = MediaJob(command, outbox.put)
                    threading.Thread(target=jobs[command.id].run, daemon=True).start()
                elif isinstance(command, Ping):
                    with contextlib.suppress(queue.Full):  # then there are signs of life enough
                        outbox.put_nowait(media_protocol.Pong())
                elif (job := jobs.get(command.id)) is not None:
                    job.put(command)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
