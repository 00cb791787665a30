"""Every setting from every source: who wins, what is refused, and what is never shown."""

import argparse
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_local_inference import commands, config_command
from mlx_local_inference.settings import (
    Field,
    Settings,
    SettingsError,
    add_flags,
    default_file,
    fields,
    flags_of,
    load,
    reference,
)
from tests.promises import promise

CHOICES: dict[str, tuple[str, str, str]] = {"script": ("traditional", "simplified", "traditional")}
EVERY_FIELD = pytest.mark.parametrize("field", fields(), ids=lambda field: field.name)


def values_of(field: Field) -> tuple[Any, Any, Any]:
    """Three distinct valid values, for the file, the environment and the flag; none is the default."""
    many: dict[Any, tuple[Any, Any, Any]] = {
        bool: (not field.default, field.default, not field.default),
        int: (11, 12, 13),
        float: (1.5, 2.5, 3.5),
        str: ("one", "two", "three"),
        tuple: (("one",), ("two", "too"), ("three", "tree")),
        dict: ({"a": "one"}, {"b": "two", "c": "too"}, {"d": "three", "e": "tree"}),
    }
    return CHOICES.get(field.name) or many[field.kind]


def as_parts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={model}" for name, model in value.items()]
    if isinstance(value, tuple):
        return list(value)
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def as_toml(field: Field, value: Any) -> str:
    if isinstance(value, dict):
        return f"[{field.name}]\n" + "".join(f'{name} = "{model}"\n' for name, model in value.items())
    return f"{field.name} = {json.dumps(value)}\n"


def given_flags(arguments: list[str]) -> Mapping[str, object]:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return flags_of(parser.parse_args(arguments))


def empty(tmp_path: Path) -> Path:
    return written(tmp_path, "")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


@promise("config:order")
@EVERY_FIELD
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(field: Field, tmp_path: Path) -> None:
    in_file, in_environment, in_flag = values_of(field)
    environ = {field.variable: ",".join(as_parts(in_environment))}
    flags = given_flags([word for part in as_parts(in_flag) for word in (field.flag, part)])

    def effective(file: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> tuple[Any, str]:
        resolved = load(file, environ, flags)
        return getattr(resolved.settings, field.name), resolved.origins[field.name]

    assert effective(empty(tmp_path), {}, {}) == (field.default, "default")
    file = written(tmp_path, as_toml(field, in_file))
    assert effective(file, {}, {}) == (in_file, f"file {file}")
    assert effective(file, environ, {}) == (in_environment, f"environment {field.variable}")
    assert effective(file, environ, flags) == (in_flag, f"flag {field.flag}")


@EVERY_FIELD
def test_a_wrong_type_in_the_file_names_the_key_and_the_file(field: Field, tmp_path: Path) -> None:
    file = written(tmp_path, f"{field.name} = 1979-05-27\n")
    with pytest.raises(SettingsError) as caught:
        load(file, {}, {})
    assert field.name in str(caught.value)
    assert str(file) in str(caught.value)
    assert "expected" in str(caught.value)


@promise("config:errors")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "many"),
        ("port", "65536"),
        ("port", "-1"),
        ("keepalive", "0"),
        ("port", ""),
        ("idle_unload", "-2"),
        ("patience", "nan"),
        ("memory_budget_gb", "0"),
        ("max_running", "0"),
        ("max_running", "1.5"),
        ("spare_runner", "maybe"),
        ("aliases", "alone"),
        ("host", ""),
    ],
)
def test_a_wrong_value_is_refused_by_name_from_environment_and_flag(name: str, text: str, tmp_path: Path) -> None:
    field = next(field for field in fields() if field.name == name)
    with pytest.raises(SettingsError, match=rf"{name} \(environment {field.variable}\): expected"):
        load(empty(tmp_path), {field.variable: text}, {})
    with pytest.raises(SettingsError, match=rf"{name} \(flag {field.flag}\): expected"):
        load(empty(tmp_path), {}, given_flags([f"{field.flag}={text}"]))


@promise("config:errors")
def test_an_unknown_key_names_the_nearest_valid_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"prot \(file .*config\.toml\).*did you mean port\?"):
        load(written(tmp_path, "prot = 1\n"), {}, {})


def test_an_unknown_variable_names_the_nearest_valid_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"MLX_LOCAL_QUEUE_LIMITS .*did you mean MLX_LOCAL_QUEUE_LIMIT\?"):
        load(empty(tmp_path), {"MLX_LOCAL_QUEUE_LIMITS": "1"}, {})


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    environ = {"MLX_LOCAL_URL": "x", "MLX_LOCAL_RUN_DIR": "y", "PATH": "z"}
    assert load(empty(tmp_path), environ, {}).settings == Settings()


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml does not exist"):
        load(tmp_path / "absent.toml", {}, {})


def test_an_absent_default_file_is_fine_and_a_present_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert load(None, {}, {}).settings == Settings()
    default_file().parent.mkdir(parents=True)
    default_file().write_text("port = 9\n", encoding="utf-8")
    assert load(None, {}, {}).settings.port == 9


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"config\.toml is not valid TOML"):
        load(written(tmp_path, "port = \n"), {}, {})


def test_a_bare_boolean_flag_means_true_and_minus_one_is_a_value(tmp_path: Path) -> None:
    file = written(tmp_path, "spare_runner = false\n")
    settings = load(file, {}, given_flags(["--spare-runner", "--idle-unload", "-1"])).settings
    assert settings.spare_runner is True
    assert settings.idle_unload == -1.0


def test_folders_of_models_are_given_by_one_flag_many_times(tmp_path: Path) -> None:
    file = written(tmp_path, 'model_dirs = ["/a"]\n')
    assert load(file, {}, given_flags(["--models-dir", "/b", "--models-dir=/c"])).settings.model_dirs == ("/b", "/c")


def test_a_blank_budget_in_the_environment_unsets_the_one_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "memory_budget_gb = 8\n")
    assert load(file, {"MLX_LOCAL_MEMORY_BUDGET_GB": ""}, {}).settings.memory_budget_gb is None


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Z", "C"], blacklist_characters=","), min_size=1)))
def test_lists_come_back_from_the_environment_as_they_were(names: list[str]) -> None:
    resolved = load(Path("/dev/null"), {"MLX_LOCAL_PINNED": ",".join(names)}, {})
    assert resolved.settings.pinned == tuple(names)


@promise("config:secrets")
@pytest.mark.parametrize("as_json", [False, True])
def test_secrets_are_shown_only_as_a_count(as_json: bool, tmp_path: Path) -> None:
    out = io.StringIO()
    config_command.run(load(empty(tmp_path), {"MLX_LOCAL_API_KEYS": "hush,quiet"}, {}), out, as_json)
    assert "*** (2)" in out.getvalue()
    assert "hush" not in out.getvalue()
    assert "quiet" not in out.getvalue()


def test_a_refused_secret_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="api_keys") as caught:
        load(written(tmp_path, 'api_keys = "hush"\n'), {}, {})
    assert "hush" not in str(caught.value)


def test_the_command_shows_every_value_with_its_origin(tmp_path: Path) -> None:
    out = io.StringIO()
    resolved = load(empty(tmp_path), {"MLX_LOCAL_PORT": "1"}, {"pinned": ["some"]})
    config_command.run(resolved, out, as_json=True)
    shown = json.loads(out.getvalue())
    assert list(shown) == [field.name for field in fields()]
    assert shown["port"] == {"value": 1, "origin": "environment MLX_LOCAL_PORT"}
    assert shown["pinned"] == {"value": ["some"], "origin": "flag --pinned"}
    text = io.StringIO()
    config_command.run(resolved, text, as_json=False)
    assert any(
        line.split() == ["port", "=", "1", "(environment", "MLX_LOCAL_PORT)"] for line in text.getvalue().splitlines()
    )


@EVERY_FIELD
def test_the_reference_and_the_help_know_every_field(field: Field) -> None:
    assert f"| `{field.name}` | `{field.variable}` | `{field.flag}` |" in reference()
    parser = argparse.ArgumentParser()
    add_flags(parser)
    assert field.flag in parser.format_help()


@promise("config:errors")
@pytest.mark.parametrize("source", ["file", "environment", "flag"])
@pytest.mark.parametrize(
    ("name", "items"),
    [
        ("api_keys", [""]),
        ("api_keys", ["  "]),
        ("api_keys", ["\t", " "]),
        ("api_keys", ["a\x07b"]),
        ("allowed_origins", ["*"]),
        ("allowed_origins", ["https://*"]),
        ("allowed_hosts", ["*"]),
        ("allowed_hosts", ["http://mac.local"]),
    ],
)
def test_an_item_that_lets_everybody_in_or_nobody_is_refused_by_name_at_the_start(
    name: str, items: list[str], source: str, tmp_path: Path
) -> None:
    field = next(field for field in fields() if field.name == name)
    file = written(tmp_path, as_toml(field, items) if source == "file" else "")
    environ = {field.variable: ",".join(items)} if source == "environment" else {}
    flags = given_flags([f"{field.flag}={','.join(items)}"]) if source == "flag" else {}
    with pytest.raises(SettingsError, match=rf"{name} \({source}"):
        load(file, environ, flags)


@pytest.mark.parametrize("name", [field.name for field in fields() if field.many])
def test_an_empty_item_of_a_list_in_the_file_is_refused(name: str, tmp_path: Path) -> None:
    field = next(field for field in fields() if field.name == name)
    with pytest.raises(SettingsError, match=f"{name} .*empty"):
        load(written(tmp_path, as_toml(field, {"x": " "} if field.kind is dict else ["x", " "])), {}, {})


@promise("config:lists")
@pytest.mark.parametrize("field", [field for field in fields() if field.many], ids=lambda field: field.name)
def test_a_list_is_the_same_by_commas_in_flag_and_environment_as_item_by_item(field: Field, tmp_path: Path) -> None:
    _, several, _ = values_of(field)
    parts = as_parts(several)
    flags = [given_flags([field.flag, " , ".join(parts)]), given_flags([f"{field.flag}={part}" for part in parts])]
    read = [load(empty(tmp_path), {}, one) for one in flags]
    read.append(load(empty(tmp_path), {field.variable: ", ".join(parts)}, {}))
    read.append(load(written(tmp_path, as_toml(field, several)), {}, {}))
    assert {repr(getattr(one.settings, field.name)) for one in read} == {repr(several)}


def test_two_places_for_the_audio_service_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--config", str(empty(tmp_path)), "--audio-listen", "unix:/nowhere/s", "--audio-port", "1"]
    assert commands.run(["serve", *given]) == 2
    assert "--audio-port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place", ["unix:~/a.sock", "unix:a.sock", "a.sock", "127.0.0.1:18799", "tcp://127.0.0.1:9", "unix:", ""]
)
def test_a_place_for_the_audio_service_is_an_absolute_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    assert commands.run(["serve", "--config", str(empty(tmp_path)), f"--audio-listen={place}"]) == 2
    assert "absolute path" in capsys.readouterr().err


def test_a_script_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="as-is, traditional or simplified"):
        load(empty(tmp_path), {"MLX_LOCAL_SCRIPT": "latin"}, {})
