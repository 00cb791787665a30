"""The OpenAI-compatible application, as a value: `build(inference, options)`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from engines.text.speakable import LONGEST_TEXT
from engines.types.errors import InvalidRequest
from engines.types.field_reader import decode_object
from engines.types.inference import Inference
from engines.types.status import ModelStatus
from http_server.boundary import Boundary
from http_server.callers import Callers
from http_server.disconnect import until_gone
from http_server.errors import error_handlers
from http_server.gate import Gate, GateLimits
from http_server.response_headers import ignored
from http_server.streaming import StreamOptions
from openai_compat.audio.routes import UPLOADS, AudioRouteOptions, AudioRoutes
from openai_compat.chat.routes import TextRoutes
from openai_compat.dialect import OPENAI
from openai_compat.names import DefaultModels


class AppOptions(msgspec.Struct, frozen=True):
    """`hosts` are names by which clients may call, beside those of the loopback. `max_upload_bytes` is for forms with
    recordings, which lie in the folder `scratch` ("": the system's) until they are answered."""

    hosts: tuple[str, ...] = ()
    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 32 << 20
    keepalive_seconds: float = 15.0
    admission_seconds: float = 1.0
    max_upload_bytes: int = 2 << 30
    max_input_characters: int = LONGEST_TEXT
    scratch: str = ""
    defaults: DefaultModels = DefaultModels()


class Beside(NamedTuple):
    """A further app at a path, behind the same checks, and the methods that it is for: any other is a 405."""

    app: ASGIApp
    methods: Sequence[str]


def build(inference: Inference, options: AppOptions, beside: Mapping[str, Beside] | None = None) -> ASGIApp:
    """One app for one port, with further ones by path."""
    front = _Front(inference)
    streams = StreamOptions(OPENAI, options.admission_seconds, options.keepalive_seconds)
    text = TextRoutes(inference, streams)
    routes = [
        Route("/health", front.health),
        Route("/metrics", front.metrics),
        Route("/v1/models", front.models),
        Route("/v1/models/{id:path}", front.model),
        Route("/v1/load", front.load, methods=["POST"]),
        Route("/v1/unload", front.unload, methods=["POST"]),
        Route("/v1/chat/completions", text.chat, methods=["POST"]),
        Route("/v1/completions", text.complete, methods=["POST"]),
        Route("/v1/tokenize", text.tokenize, methods=["POST"]),
        Route("/v1/detokenize", text.detokenize, methods=["POST"]),
        *AudioRoutes(inference, _audio_options(options, streams)).routes(),
        *(_route(path, one) for path, one in (beside or {}).items()),
    ]
    app = Starlette(routes=routes, exception_handlers=error_handlers())
    limits = GateLimits(options.max_body_bytes, options.max_upload_bytes, UPLOADS)
    callers = Callers(options.hosts, options.origins)
    return Boundary(Gate(app, callers, options.api_keys, limits), callers, lambda path: OPENAI)


def _route(path: str, beside: Beside) -> Route:
    """Not for HEAD, which Starlette adds to GET: a stream would begin, and never end."""
    route = Route(path, beside.app, methods=list(beside.methods))
    route.methods = set(beside.methods)
    return route


def _audio_options(options: AppOptions, streams: StreamOptions) -> AudioRouteOptions:
    return AudioRouteOptions(
        defaults=options.defaults,
        scratch=options.scratch,
        longest_input=options.max_input_characters,
        streams=streams,
    )


class _Front:
    """What there is, how it is, and loading by hand."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def health(self, request: Request) -> Response:
        health = self._inference.health()
        body = {
            "status": "ok" if health.ok else "unhealthy",
            "problems": health.problems,
            "background": {"paused": bool(health.paused_by), "reasons": health.paused_by},
            "conditions": health.conditions,
        }
        return JSONResponse(body, 200 if health.ok else 503)

    async def metrics(self, request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_Samples(self._inference))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def models(self, request: Request) -> Response:
        statuses = await asyncio.to_thread(self._inference.models)
        return JSONResponse({"object": "list", "data": [_described(one, one.names[0]) for one in statuses]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["id"]
        return JSONResponse(_described(await asyncio.to_thread(self._inference.model, name), name))

    async def load(self, request: Request) -> Response:
        name, unknown = model_of(await request.body())
        await until_gone(request, self._inference.load(name))
        return JSONResponse({"model": name, "state": "ready"}, headers=ignored(unknown))

    async def unload(self, request: Request) -> Response:
        name, unknown = model_of(await request.body())
        await until_gone(request, self._inference.unload(name))
        return JSONResponse({"model": name, "state": "unloaded"}, headers=ignored(unknown))


class _Samples(Collector):
    """What the engines count, in Prometheus' families."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def collect(self) -> list[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for one in self._inference.metrics():
            kind = CounterMetricFamily if one.kind == "counter" else GaugeMetricFamily
            if one.name not in families:
                families[one.name] = kind(one.name, one.help, labels=[name for name, _ in one.labels])
            families[one.name].add_metric([value for _, value in one.labels], one.value)
        return list(families.values())


def _described(status: ModelStatus, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": status.created,
        "owned_by": "local",
        **msgspec.to_builtins(status),
    }


def model_of(body: bytes) -> tuple[str, list[str]]:
    """The model, and names that nothing knows."""
    given = decode_object(body)
    name = given.pop("model", None)
    if not isinstance(name, str) or not name:
        raise InvalidRequest('The body must be {"model": NAME}.', param="model")
    return name, sorted(given)
