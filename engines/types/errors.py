"""What can go wrong, as one tree; each leaf knows how every front reports it.

ServiceError
├── InvalidRequest                400  the request can't be understood; `param` names the field
│   ├── UnsupportedField          400  understood, would change the answer, and isn't built
│   ├── ContextLengthExceeded     400
│   └── WrongCapability           400  the model exists, but does something else
├── InvalidApiKey                 401
├── HostRefused                   403  a browser's page from elsewhere, or a name that isn't ours
├── UnknownModel                  404
├── ModelNotInstalled             404
├── UnknownVoice                  404
├── UnknownRoute                  404
├── MethodRefused                 405
├── RequestTimeout                408  it stopped coming
├── ClientTooSlow                 408  what came of the request isn't read, while others wait for its place
├── BodyTooLarge                  413
├── TargetTooLong                 414
├── UnsupportedEncoding           415  of the body: `Content-Encoding`
├── CheckpointUnusable            422  files are missing, or of a kind we can't run
├── QueueFull                     429
├── HeadersTooLarge               431
├── InternalError                 500
├── TooManyConnections            503
├── OutOfDescriptors              503  this process can open no more files
├── LoadFailed                    503
├── RunnerDied                    503
├── ShuttingDown                  503
├── Stalled                       504
└── DoesNotFit                    507
"""

import errno
from typing import ClassVar, Literal

import msgspec

ErrorType = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]


class ServiceError(Exception):
    """A failure with a message for people: what happened, and what to do about it.

    `param` names the field of the request at fault; `retry_after` is in seconds, None when trying again is no use.
    """

    status: ClassVar[int] = 500
    type: ClassVar[ErrorType] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(ServiceError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class UnsupportedField(InvalidRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class WrongCapability(InvalidRequest):
    code = "wrong_capability"


class InvalidApiKey(ServiceError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class HostRefused(ServiceError):
    status, type, code = 403, "invalid_request_error", "host_refused"


class UnknownModel(ServiceError):
    status, type, code = 404, "invalid_request_error", "model_not_found"


class ModelNotInstalled(ServiceError):
    status, type, code = 404, "invalid_request_error", "model_not_installed"


class UnknownVoice(ServiceError):
    status, type, code = 404, "invalid_request_error", "voice_not_found"


class UnknownRoute(ServiceError):
    status, type, code = 404, "invalid_request_error", "unknown_route"


class MethodRefused(ServiceError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(ServiceError):
    status, type, code = 408, "invalid_request_error", "request_timeout"


class ClientTooSlow(ServiceError):
    status, type, code = 408, "invalid_request_error", "client_too_slow"


class BodyTooLarge(ServiceError):
    status, type, code = 413, "invalid_request_error", "body_too_large"


class TargetTooLong(ServiceError):
    status, type, code = 414, "invalid_request_error", "uri_too_long"


class UnsupportedEncoding(ServiceError):
    status, type, code = 415, "invalid_request_error", "unsupported_content_encoding"


class CheckpointUnusable(ServiceError):
    status, type, code = 422, "invalid_request_error", "checkpoint_unusable"


class QueueFull(ServiceError):
    status, type, code = 429, "rate_limit_error", "queue_full"


class HeadersTooLarge(ServiceError):
    status, type, code = 431, "invalid_request_error", "headers_too_large"


class InternalError(ServiceError):
    pass


class TooManyConnections(ServiceError):
    status, code = 503, "too_many_connections"


class OutOfDescriptors(ServiceError):
    status, code = 503, "too_many_open_files"


class LoadFailed(ServiceError):
    status, code = 503, "model_load_failed"


class RunnerDied(ServiceError):
    status, code = 503, "runner_died"


class ShuttingDown(ServiceError):
    status, code = 503, "shutting_down"


class Stalled(ServiceError):
    status, code = 504, "model_stalled"


class DoesNotFit(ServiceError):
    status, code = 507, "does_not_fit"


def stopping() -> ShuttingDown:
    """What whoever waits is told when the server stops."""
    return ShuttingDown("The server is stopping; try again when it is back.", retry_after=1.0)


def shortage(error: BaseException) -> ServiceError | None:
    """What a want of the system's, of disk or descriptors, is told as; None for another error."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return OutOfDescriptors("The server can open no more files now; try again in a moment.", retry_after=1.0)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return DoesNotFit("The server's disk is full: make room there, or send a smaller file.")
    return None


def raise_shortage(error: BaseException) -> None:
    """Raise what `shortage` calls it; for where other errors have a meaning, such as "nothing there"."""
    if (known := shortage(error)) is not None:
        raise known from error


def leaves(of: type[ServiceError] = ServiceError) -> list[type[ServiceError]]:
    """Every class of the tree below `of`, parents before children."""
    found: list[type[ServiceError]] = []
    for child in of.__subclasses__():
        found += [child, *leaves(child)]
    return found


class Failure(msgspec.Struct, frozen=True):
    """A `ServiceError` as data, for the wire between processes."""

    code: str
    message: str
    param: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ServiceError) -> "Failure":
        return cls(error.code, error.message, error.param, error.retry_after)

    def error(self) -> ServiceError:
        """The exception it was made of; a code from a newer peer becomes an `InternalError`."""
        kinds = {kind.code: kind for kind in leaves()}
        return kinds.get(self.code, InternalError)(self.message, param=self.param, retry_after=self.retry_after)
