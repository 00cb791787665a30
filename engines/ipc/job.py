"""What the server and each kind of child say of one job: further credit, a cancellation, its failure.

`id` is the server's number for the job, unique in its life.
"""

import msgspec

from engines.types.errors import Failure


class Credit(msgspec.Struct, frozen=True, tag=True):
    """To the child: `count` more results of a job (deltas of a request, pieces of a recording) may be sent."""

    id: int
    count: int


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """To the child: nobody wants the job any more, in whatever phase it is. Unknown ids are ignored."""

    id: int


class Ping(msgspec.Struct, frozen=True, tag=True):
    """To the child: answer as soon as there is time, with or without a job."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From the child: the job's last report; `failure` says why."""

    id: int
    failure: Failure
