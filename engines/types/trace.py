"""Which client's request the code that runs now works for: known to the log, whoever writes the line."""

import logging
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("trace", default="-")


class Traced(logging.Filter):
    """For a handler: gives every record `trace`, the `X-Request-Id` of the request that it concerns, else "-"."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.trace = getattr(record, "trace", None) or current.get()
        return True
