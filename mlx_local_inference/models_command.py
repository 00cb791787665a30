"""`mlx-local models`: what is installed, and fetching what isn't."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import msgspec

from engines.models.catalog import Catalog, Entry, NotInstalled, hub_cache

# In a child: the hub's client never lives in our process. Progress goes to stderr, the outcome to stdout.
_DOWNLOAD = """
import json, sys
try:
    from huggingface_hub import snapshot_download
    patterns = ["*.safetensors", "*.npz", "*.json", "*.jinja", "*.txt", "*.model"]
    print(json.dumps({"folder": snapshot_download(sys.argv[1], allow_patterns=patterns)}))
except Exception as error:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    print(json.dumps({"problem": type(error).__name__ + ": " + " ".join(lines[:2])}))
    sys.exit(1)
"""


class _Outcome(msgspec.Struct):
    folder: str = ""
    problem: str = ""


class _Row(msgspec.Struct):
    name: str
    state: str
    bytes: int = 0
    also: tuple[str, ...] = ()
    folder: str = ""
    repository: str = ""
    missing: tuple[str, ...] = ()


def list_models(catalog: Catalog, out: TextIO, as_json: bool) -> None:
    """One line a model: main name, state, size in GB, other names. As JSON: an array of objects, sizes in bytes."""
    rows = [_row(item) for item in catalog.entries()]
    if as_json:
        out.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")
        return
    table = [("NAME", "STATE", "SIZE", "ALSO")]
    for row in rows:
        also = ", ".join(row.also) or row.repository
        table.append((row.name, row.state, f"{row.bytes / 1e9:.1f} GB" if row.bytes else "-", also))
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        out.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")
    for row in rows:
        if row.missing:
            out.write(f"{row.name}: missing {', '.join(row.missing)}\n")


def pull(name: str, catalog: Catalog, environ: Mapping[str, str], out: TextIO) -> int:
    """Fetch a repository, by its full name or a name that stands for one; a broken download is resumed.

    Returns an exit code: 0 when all is on disk, 2 for a name that is no repository, else the download's.
    """
    repository = catalog.repository(name)
    if repository is None or repository.count("/") != 1:
        out.write(f"{name!r} is no repository. Say ORG/NAME, or a name that `mlx-local models` lists.\n")
        return 2
    out.write(f"Fetching {repository} into {hub_cache(environ, Path(environ.get('HOME') or Path.home()))}\n")
    out.flush()
    command = [sys.executable, "-P", "-c", _DOWNLOAD, repository]
    ended = subprocess.run(command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    try:
        outcome = msgspec.json.decode(ended.stdout.strip().rpartition(b"\n")[2], type=_Outcome)
    except msgspec.DecodeError:
        outcome = _Outcome(problem=f"the download ended with code {ended.returncode}.")
    if ended.returncode == 0:
        out.write(f"{repository} is in {outcome.folder}\n")
        return 0
    hint = "Check the name and the network, then run the same command again: it goes on where it stopped."
    out.write(f"{repository} couldn't be fetched: {outcome.problem} {hint}\n")
    return ended.returncode


def _row(item: Entry | NotInstalled) -> _Row:
    if isinstance(item, NotInstalled):
        return _Row(item.name, "not installed", repository=item.repository)
    seen = item.checkpoint
    state = "incomplete" if seen.missing else "ready" if seen.capability else "can't be run here"
    return _Row(item.names[0], state, seen.weights_bytes, item.names[1:], item.key, missing=seen.missing)
