import http.client
import time
from pathlib import Path

import pytest

from rondo_trainer import client as client_module
from rondo_trainer.client import TaskClient
from rondo_trainer.exits import AgentUnreachableError, InputMissingError, RefusedError, TrainerError
from task_server import Agent, TaskServer, make_certificate


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def agent() -> Agent:
    return Agent(task=b"{}", files={"/v1/task/adapter": b"parent" * 1000})


@pytest.fixture
def server(agent: Agent, tmp_path: Path):
    with TaskServer(agent, tmp_path) as server:
        yield server


def client_of(server: TaskServer) -> TaskClient:
    return TaskClient(server.url, server.ca_file, server.token_file)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 401])
def test_a_restarting_agent_is_asked_again(agent: Agent, server: TaskServer, status: int) -> None:
    agent.failures["GET /v1/task"] = [status, status]
    assert client_of(server).task() == b"{}"
    assert agent.calls == ["GET /v1/task"] * 3


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_a_refusal_is_not_repeated(agent: Agent, server: TaskServer, status: int) -> None:
    agent.failures["GET /v1/task"] = [status]
    with pytest.raises(RefusedError, match=f"GET /v1/task was answered {status}: not now"):
        client_of(server).task()
    assert len(agent.calls) == 1


def test_an_agent_that_stays_away_is_given_up_at_the_deadline(server: TaskServer) -> None:
    client = client_of(server)
    server.server.shutdown()
    server.server.server_close()
    client.deadline_ms = int(time.time() * 1000) + 300
    started = time.monotonic()
    with pytest.raises(AgentUnreachableError, match="until the deadline"):
        client.task()
    assert time.monotonic() - started < 5


def test_the_adapter_is_downloaded_whole_and_uploaded_whole(agent: Agent, server: TaskServer, tmp_path: Path) -> None:
    client = client_of(server)
    client.download("/v1/task/adapter", tmp_path / "adapter")
    assert (tmp_path / "adapter").read_bytes() == b"parent" * 1000
    agent.failures["PUT /v1/task/adapter"] = [503]
    client.upload("/v1/task/adapter", tmp_path / "adapter")
    assert agent.adapter == b"parent" * 1000


def test_a_download_that_breaks_off_is_no_download(server: TaskServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module.shutil, "copyfileobj", lambda source, into, _size: into.write(source.read(10)))
    client = client_of(server)
    client.deadline_ms = int(time.time() * 1000)
    with pytest.raises(AgentUnreachableError):
        client.download("/v1/task/adapter", tmp_path / "adapter")


def test_another_authoritys_certificate_is_refused_at_once(server: TaskServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    client = TaskClient(server.url, make_certificate(other)[0], server.token_file)
    with pytest.raises(AgentUnreachableError, match="is not of RONDO_TASK_CA"):
        client.task()


def test_a_renewed_token_is_taken_up(agent: Agent, server: TaskServer) -> None:
    client = client_of(server)
    right = server.token_file.read_text()
    server.token_file.write_text("old")
    client.deadline_ms = int(time.time() * 1000)
    with pytest.raises(AgentUnreachableError, match="401"):
        client.task()
    server.token_file.write_text(right)
    assert client.task() == b"{}"


def test_progress_goes_at_most_once_a_second_and_never_fails(agent: Agent, server: TaskServer) -> None:
    client = client_of(server)
    for step in range(5):
        client.progress({"step": step})
    assert agent.progress == [{"step": 0}]
    agent.failures["POST /v1/task/progress"] = [500]
    client.progress_not_before = 0
    client.progress({"step": 6})
    assert client.progress_not_before > time.monotonic() + 5


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", ""])
def test_a_url_that_is_not_https_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="RONDO_TASK_URL"):
        TaskClient(url, tmp_path, tmp_path)


def test_a_missing_ca_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="RONDO_TASK_CA"):
        TaskClient("https://127.0.0.1:1", tmp_path / "ca.crt", tmp_path)


def test_an_answer_that_is_no_http_counts_as_lost() -> None:
    assert issubclass(http.client.BadStatusLine, client_module.LOST)
