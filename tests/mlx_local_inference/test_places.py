import stat
from pathlib import Path

import pytest

from mlx_local_inference.places import StartFailed, bind
from mlx_local_inference.ports import PortTaken
from mlx_local_inference.settings import Settings
from tests.promises import promise

FREE = Settings(port=0, audio_port=0)


@promise("core:server:start-sentence")
@pytest.mark.parametrize(
    ("files", "run", "audio", "named"),
    [
        ("/dev/null/files", "{tmp}", None, ("/dev/null/files", "Not a directory", "--files-dir")),
        ("{tmp}/files", "/dev/null/run", None, ("/dev/null/run", "Not a directory", "MLX_LOCAL_RUN_DIR")),
        ("{tmp}/files", "{tmp}", "unix:/dev/null/x/a", ("/dev/null/x/a", "Not a directory", "--audio-listen")),
        ("{tmp}/files", "{tmp}/run", "unix:{tmp}/taken", ("{tmp}/taken", "no socket", "--audio-listen")),
        ("{tmp}/files", "{tmp}", "unix:/tmp/" + "a" * 150, ("aaaa", "too long", "--audio-listen")),
    ],
    ids=["files", "run", "socket", "a file", "long path"],
)
def test_what_the_server_cant_have_is_a_sentence_with_what_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, run: str, audio: str | None, named: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLX_LOCAL_RUN_DIR", run.format(tmp=tmp_path))
    (tmp_path / "taken").write_text("a user's own", encoding="utf-8")
    with pytest.raises(StartFailed) as caught:
        bind(FREE, audio and audio.format(tmp=tmp_path), Path(files.format(tmp=tmp_path)), tmp_path)
    for name in named:
        assert name.format(tmp=tmp_path) in str(caught.value)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "a user's own"


def test_the_folder_of_a_users_socket_stays_as_it_is_and_the_agents_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_LOCAL_RUN_DIR", str(tmp_path / "run"))
    tmp_path.chmod(0o755)
    places = bind(FREE, f"unix:{tmp_path}/a", tmp_path / "files", tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    places.unlink()
    assert not (tmp_path / "a").exists() and not places.relay_path.exists()
    places.relay_path.write_text("the next server's", encoding="utf-8")
    places.unlink()
    assert places.relay_path.exists()
    for link in (*places.main, *places.audio, places.relays):
        link.close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid"])
def test_an_address_that_isnt_ours_is_named(tmp_path: Path, host: str) -> None:
    with pytest.raises(PortTaken, match=host):
        bind(Settings(host=host, port=0, audio_port=0), None, tmp_path / "files", tmp_path)
