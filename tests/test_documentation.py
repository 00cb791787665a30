"""The documentation is true: its commands exist, its names resolve, its references are current."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
import pytest

from mcp_server.paths import METHODS
from mlx_local_inference import settings
from openai_compat.app import AppOptions, build
from tests.documents import PAGES, codes, is_file, links, members, vocabulary
from tests.scripted import Scripted

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"`((?:engines|http_server|openai_compat|mcp_server|files)(?:\.\w+)+)`")
FENCED = re.compile(r"```sh\n(.*?)```", re.S)


def names() -> list[str]:
    return sorted({name for page in PAGES for name in NAME.findall(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("name", names())
def test_every_dotted_name_of_ours_is_there(name: str) -> None:
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return
    raise AssertionError(name)


def test_the_life_of_a_request_names_its_stations() -> None:
    assert len(NAME.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))) >= 12


def commands() -> list[str]:
    lines = [
        line for block in FENCED.findall((ROOT / "README.md").read_text(encoding="utf-8")) for line in block.split("\n")
    ]
    return [line for line in lines if line]


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_every_make_target_in_the_readme_is_one(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"\n{command.split()[1]}:" in makefile


def test_the_reference_of_settings_is_current() -> None:
    assert settings.reference() in (ROOT / "references" / "configuration.md").read_text(encoding="utf-8")


def id_of(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


# A path, or a file's name: not a route, an address, a type of content or what a build leaves.
PATH = re.compile(r"(?!build/)(?:[\w.-]+/)+(?:[\w.-]+)?|[\w-]+\.(?:py|md)")
OTHER_PATH = re.compile(r"(audio|text)/(aac|flac|mpeg|ogg|pcm|plain|vtt|wav)|notifications/cancelled")  # of HTTP, MCP


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_path_is_one(page: Path) -> None:
    paths = [code for code in codes(page) if PATH.fullmatch(code) and not OTHER_PATH.fullmatch(code)]
    assert [path for path in paths if not is_file(path.rstrip("/"))] == []


IDENTIFIER = re.compile(r"[A-Za-z]\w*_\w+|[A-Z][a-z]+[A-Z]\w+")  # such as no word of English is
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r".*\.(?:json|jinja|lock|md|py|toml)")
VARIABLE = "MLX_LOCAL_"  # before the name of a setting in capitals
# Of systems and libraries, and an unknown field as an example.
ELSEWHERE = {
    *("com.apple.system.thermalpressurelevel", "compute_ff_tokens", "sched_autogroup", "sched_yield"),
    "stream_options.zebra",
}


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_name_of_code_is_in_the_source(page: Path) -> None:
    """Fields, settings, codes of errors, classes and functions: a name that was changed stays in no page."""
    names = [code.removesuffix("()") for code in codes(page)]
    whole = [name for name in names if IDENTIFIER.fullmatch(name) and not (name in vocabulary() or is_variable(name))]
    dotted = [name for name in names if DOTTED.fullmatch(name) and not FILE.fullmatch(name)]
    parts = [name for name in dotted if not set(name.split(".")) <= vocabulary()]
    owned = [name for name in dotted if name.split(".")[0] in members() and not is_member(*name.split(".")[:2])]
    assert sorted({*whole, *parts, *owned} - ELSEWHERE) == []


def is_variable(name: str) -> bool:
    return name.startswith(VARIABLE) and name.removeprefix(VARIABLE).lower() in members()["Settings"]


def is_member(owner: str, name: str) -> bool:
    return name in members()[owner]


ROUTE = re.compile(r"(?:[A-Z]+ |http://localhost:878[78])?(/(?:v1|mcp|sse|health|metrics)\b[\w/.-]*)")


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_every_route_is_served(page: Path) -> None:
    async def unknown() -> list[str]:
        transport = httpx2.ASGITransport(build(Scripted(), AppOptions()))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return [route for route in routes if (await http.patch(route)).status_code != 405]

    found = [match[1] for code in codes(page) if (match := ROUTE.fullmatch(code))]
    routes = [route for route in found if route not in {*METHODS, "/v1"}]
    assert anyio.run(unknown) == []


COMMAND = re.compile(r"(?:\.venv/bin/)?mlx-local ([a-z]+(?: (?:list|pull))?)\b(.*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def test_every_command_and_flag_is_one() -> None:
    """Flags that are named without a command are of `serve`, which has those of all settings, `chat` or the bench."""
    wanted: dict[str, set[str]] = {"serve": set(), "chat": set()}
    for code in {code for page in PAGES for code in codes(page)}:
        if found := COMMAND.fullmatch(code):
            wanted.setdefault(found[1], set()).update(FLAG.findall(found[2]))
    known = {verb: flags_in_help(verb) for verb in [*wanted, "bench"]}
    assert {verb: flags - known[verb] for verb, flags in wanted.items() if flags - known[verb]} == {}
    bare = {flag for page in PAGES for code in codes(page) if code.startswith("--") for flag in FLAG.findall(code)}
    assert bare - set().union(*known.values()) == set()


def flags_in_help(verb: str) -> set[str]:
    words = ["bench"] if verb == "bench" else ["mlx_local_inference", *verb.split()]
    command = [sys.executable, "-m", *words, "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    return set(FLAG.findall(shown.stdout))
