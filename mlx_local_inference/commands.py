"""The verbs of the command line."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any, TextIO, cast

from engines.host import descriptors
from engines.models.catalog import Catalog, default_roots
from mlx_local_inference import chat_command, config_command, demo_command, models_command, serving, settings
from mlx_local_inference.output import Output, OutputFailed, complain
from mlx_local_inference.ports import local_url
from mlx_local_inference.settings import Resolved, SettingsError


class _CommandParser(argparse.ArgumentParser):
    """Its help can fail as any output can; `argparse` alone would swallow it."""

    def print_help(self, file: Any = None) -> None:
        (file or Output(sys.stdout)).write(self.format_help())


def parser() -> argparse.ArgumentParser:
    """All verbs and flags; those of the settings derive from `Settings`."""
    root = _CommandParser(prog="mlx-local", description="An AI service of your own, offline, on Apple's MLX.")
    verbs = root.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    serve = verbs.add_parser("serve", help="start the service and stay in the foreground")
    serve.add_argument("--demo", action="store_true", help="serve the small bundled models under the default names")
    serve.add_argument("--audio-listen", metavar="unix:PATH", help="listen on a unix socket instead of the audio port")
    serve.add_argument("--json", action="store_true", help="print one line of JSON when ready")
    serve.add_argument(
        "--stop-at-eof", action="store_true", help="stop when standard input ends: with the program that holds it open"
    )
    _add_settings(serve)

    config = verbs.add_parser("config", help="show every setting in effect and where it comes from")
    config.add_argument("--json", action="store_true", help="as JSON")
    _add_settings(config)

    models = verbs.add_parser("models", help="list or fetch models")
    kinds = models.add_subparsers(dest="kind", required=True, metavar="list|pull")
    listing = kinds.add_parser("list", help="what is known and what is installed")
    listing.add_argument("--json", action="store_true", help="as JSON")
    _add_settings(listing)
    pull = kinds.add_parser("pull", help="fetch a model from the hub; continues where it was broken off")
    pull.add_argument("name")
    _add_settings(pull)

    chat = verbs.add_parser("chat", help="talk to a model on the terminal")
    chat.add_argument("prompt", nargs="*", help="one question, - for standard input; what is piped in is put to it")
    chat.add_argument("--model", default="qwen3-14b", help="default: qwen3-14b")
    chat.add_argument("--url", help="the server; default: MLX_LOCAL_URL, else the configured port")
    chat.add_argument("--max-tokens", type=int, help="length of an answer")
    _add_settings(chat)

    verbs.add_parser("demo", help="try everything on the small bundled models")
    verbs.add_parser("mcp", help="an MCP server on stdin and stdout, for agents: relays to the service, or starts it")
    return root


def run(arguments: list[str]) -> int:
    """Carry a command out; the exit status."""
    descriptors.fill_standard()  # before there is a loop or a connection, which have descriptors too
    out = Output(sys.stdout)
    try:
        try:
            return _run(arguments, cast(TextIO, out))
        finally:
            out.flush()  # here, where it can be told that it failed
    except OutputFailed as failed:
        return failed.told()


def _run(arguments: list[str], out: TextIO) -> int:
    options = parser().parse_args(arguments)
    try:
        if options.verb == "demo":
            return demo_command.run(out)
        return _carry_out(options, _settings(options), out)
    except SettingsError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


def _carry_out(options: argparse.Namespace, resolved: Resolved, out: TextIO) -> int:
    if options.verb == "config":
        config_command.run(resolved, out, options.json)
        return 0
    if options.verb == "models":
        catalog = catalog_of(resolved)
        if options.kind == "pull":
            return models_command.pull(options.name, catalog, os.environ, out)
        models_command.list_models(catalog, out, options.json)
        return 0
    if options.verb == "chat":
        used = resolved.settings
        url = options.url or os.environ.get("MLX_LOCAL_URL") or local_url(used.host, used.port)
        return chat_command.run(url, options.model, options.prompt, options.max_tokens, used.api_keys, out)
    _check_places(options, resolved)
    command = serving.Command(options.demo, options.audio_listen, options.json, options.stop_at_eof)
    return asyncio.run(serving.run(resolved.settings, command))


def _check_places(options: argparse.Namespace, resolved: Resolved) -> None:
    """Of two flags that name a place for the audio service, neither is dropped in silence."""
    if options.audio_listen is not None and not options.audio_listen.startswith("unix:/"):
        raise SettingsError(f"--audio-listen must be unix: and an absolute path, not {options.audio_listen!r}")
    named = [name for name in ("audio_host", "audio_port") if resolved.origins[name].startswith("flag")]
    if options.audio_listen is not None and named:
        raise SettingsError(f"--audio-listen and {named[0]} ({resolved.origins[named[0]]}) name two places; give one")


def catalog_of(resolved: Resolved) -> Catalog:
    """What is installed, by the configuration and this user's home."""
    folders = tuple(Path(folder).expanduser() for folder in resolved.settings.model_dirs)
    return Catalog(default_roots(os.environ, Path.home(), folders), resolved.settings.aliases)


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    settings.add_flags(command)


def _settings(options: argparse.Namespace) -> Resolved:
    return settings.load(options.config, os.environ, settings.flags_of(options))
