"""OpenAI's way to write errors and events."""

import json

from engines.types.common import Json
from engines.types.errors import ServiceError


class OpenAIDialect:
    """`http_server.dialect.Dialect` for OpenAI's routes, and for those that have no API of their own."""

    keep_alive = b": keep-alive\n\n"

    def error(self, error: ServiceError) -> Json:
        return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}

    def error_event(self, error: ServiceError) -> bytes:
        return self.event(self.error(error))

    def event(self, data: Json) -> bytes:
        return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


OPENAI = OpenAIDialect()
