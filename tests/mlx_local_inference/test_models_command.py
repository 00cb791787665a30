import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engines.models.catalog import Catalog, Roots
from engines.models.registry import DEFAULTS
from mlx_local_inference.models_command import list_models, pull

SHA = "a" * 40
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "x"}',
    "model.safetensors": b"weights",
    "picture.png": b"not wanted",
}


class Hub(BaseHTTPRequestHandler):
    """The two routes of the hub that a snapshot needs; only org/here exists."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith("/api/models/org/here"):
            siblings = [{"rfilename": file} for file in FILES]
            body = json.dumps({"id": "org/here", "sha": SHA, "siblings": siblings}).encode()
            if "/tree/" in path:
                body = json.dumps(
                    [{"type": "file", "path": f, "size": len(b), "oid": "0"} for f, b in FILES.items()]
                ).encode()
            self._answer(200, body)
        elif path.startswith(f"/org/here/resolve/{SHA}/") and name in FILES:
            self._answer(200, FILES[name])
        else:
            self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def hub(home: Path) -> Iterator[dict[str, str]]:
    """The environment in which the hub is a server of ours."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
            places = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_CACHE": str(home / "hub")}
            quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
            yield {**kept, **places, **quiet, "no_proxy": "127.0.0.1", "HOME": str(home)}
        finally:
            server.shutdown()
            thread.join()


def catalog(home: Path, **aliases: str) -> Catalog:
    return Catalog(Roots(hubs=(home / "hub",)), aliases)


def test_a_pulled_model_is_installed(tmp_path: Path) -> None:
    out = io.StringIO()
    with hub(tmp_path) as environ:
        assert pull("mine", catalog(tmp_path, mine="org/here"), environ, out) == 0
    assert str(tmp_path / "hub") in out.getvalue()
    folder = Path(catalog(tmp_path).resolve("org/here").key)
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(FILES) - {"picture.png"})


def test_a_repository_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    out = io.StringIO()
    with hub(tmp_path) as environ:
        assert pull("org/absent", catalog(tmp_path), environ, out) == 1
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "org/absent couldn't be fetched: " in lines[1] and "404" in lines[1] and "again" in lines[1]


def test_a_name_that_is_no_repository_is_not_looked_for(tmp_path: Path) -> None:
    out = io.StringIO()
    assert pull("nothing", catalog(tmp_path), {}, out) == 2
    assert "ORG/NAME" in out.getvalue()


def test_the_table_names_every_model_and_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "own/half"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen3"}')
    known = Catalog(Roots(configured=(tmp_path / "own",)), {})
    out = io.StringIO()
    list_models(known, out, as_json=False)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["NAME", "STATE", "SIZE", "ALSO"]
    assert lines[1].split() == ["half", "incomplete", "-"]
    assert "qwen3-14b" in lines[2] and "not installed" in lines[2] and "mlx-community/Qwen3-14B-4bit" in lines[2]
    assert "half: missing tokenizer.json" in lines[-1]


def test_the_list_is_also_json(tmp_path: Path) -> None:
    out = io.StringIO()
    list_models(catalog(tmp_path), out, as_json=True)
    assert [(row["name"], row["state"]) for row in json.loads(out.getvalue())] == [
        (name, "not installed") for name in DEFAULTS
    ]
