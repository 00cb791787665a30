"""`--models-dir`, as an operator uses it: without the demo's models."""

from pathlib import Path

from demo.checkpoints import make_qwen3
from tests.end_to_end.conftest import Service, Start
from tests.promises import promise

ASK = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@promise("core:names:no-paths")
def test_a_folder_of_models_is_served_by_its_sub_folders_names_and_paths_name_nothing(
    start: Start, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    make_qwen3(mine / "My-Model")
    make_qwen3(tmp_path / "models" / "org" / "Other")  # one of the usual places
    make_qwen3(tmp_path / "elsewhere" / "Hidden")
    with start("--models-dir", str(mine), demo=False) as service:
        names = [one["id"] for one in service.http.get("/v1/models").json()["data"]]
        assert "My-Model" in names and "org/Other" in names
        assert service.chat({**ASK, "model": "my-model"}).status_code == 200
        mine_by_path = str(mine / "My-Model")
        for path in [mine_by_path, f"file://{mine_by_path}", "./My-Model", "My-Model/", "My-Model/../My-Model", "/"]:
            assert refused(service, path)
        for path in [
            "Hidden",
            "../elsewhere/Hidden",
            "~/elsewhere/Hidden",
            str(tmp_path / "elsewhere" / "Hidden"),
            "..",
        ]:
            assert refused(service, path)


def refused(service: Service, name: str) -> bool:
    chat = service.chat({**ASK, "model": name})
    load = service.http.post("/v1/load", json={"model": name})
    codes = ("model_not_found", "model_not_installed")
    return chat.status_code == load.status_code == 404 and chat.json()["error"]["code"] in codes


@promise("core:names:not-installed")
def test_a_model_that_is_not_there_is_an_answer_within_a_tenth_of_a_second(start: Start, tmp_path: Path) -> None:
    make_qwen3(tmp_path / "mine" / "My-Model")
    with start("--models-dir", str(tmp_path / "mine"), "--spare-runner", "false", demo=False) as service:
        for name, said in [
            ("nobody", "My-Model"),
            ("qwen3-14b", "models pull mlx-community/Qwen3-14B-4bit"),
            ("some/model", "models pull some/model"),
        ]:
            answers = [service.chat({**ASK, "model": name}) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {404}
            assert min(answer.elapsed.total_seconds() for answer in answers) < 0.1
            assert said in answers[0].json()["error"]["message"]
