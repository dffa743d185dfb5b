"""Runs of MLflow, in a real store: what they say of a trial, and that every one of them ends."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distill_at_scale.errors import DasError
from distill_at_scale.genie.trials import TrialKey, TrialRow
from distill_at_scale.pipelines.sweeps.mlflow_runs import EXPERIMENT, MlflowRuns, open_runs

Runs = Callable[[], list[Any]]


def trial(method: str = "random", seed: int = 0) -> TrialKey:
    return TrialKey("ml", "f" * 16, method, 0.1, "ease", seed)


def done(method: str = "random", seed: int = 0) -> TrialRow:
    metrics = {"ndcg@10": 0.25, "auc": 0.8}
    return TrialRow(trial(method, seed), "done", rows=80, fit_cpu_s=2.0, metrics=metrics, resampled={"ndcg@10": [0.2]})


def failed(method: str = "random") -> TrialRow:
    return TrialRow(trial(method), "failed", "no rows")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose tables are made once: that takes seconds."""
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    open_runs(f"sqlite:///{file}", "")
    return file


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(empty.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def runs(store: str) -> Runs:
    def found() -> list[Any]:
        import mlflow

        client = mlflow.MlflowClient(tracking_uri=store)
        return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))

    return found


def sweep(store: str, output: str = "s3://bucket/sweep's") -> MlflowRuns:
    return open_runs(store, output)


def test_a_run_says_what_its_row_says(store: str, runs: Runs) -> None:
    with sweep(store) as log:
        log.start([trial()])
        (run,) = runs()
        assert run.info.status == "RUNNING"
        log.start([trial()])  # its worker has died, and another one took over
        log.end([done()])
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "random 0.1 ease 0"
    assert run.data.params == {name: str(value) for name, value in trial().as_dict().items()}
    assert set(run.data.params) == {"dataset", "fingerprint", "method", "budget", "model", "seed"}
    expected = {"ndcg_at_10": 0.25, "auc": 0.8, "rows": 80.0, "fit_cpu_s": 2.0}
    assert run.data.metrics == pytest.approx(expected)


def test_every_run_ends_as_its_trial_does(store: str, runs: Runs) -> None:
    with sweep(store) as log:
        log.start([trial("done"), trial("failed"), trial("stopped")])
        log.end([done("done"), failed("failed")])
    assert {run.data.params["method"]: run.info.status for run in runs()} == {
        "done": "FINISHED",
        "failed": "FAILED",
        "stopped": "KILLED",
    }


def test_an_interrupted_sweep_leaves_none_running(store: str, runs: Runs) -> None:
    def interrupted() -> None:
        with sweep(store) as log:
            log.start([trial()])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [run.info.status for run in runs()] == ["KILLED"]
    # A process that is killed ends nothing: the next one does.
    killed = sweep(store)
    killed.__enter__()
    killed.start([trial("late")])
    with sweep(store, "another"):
        pass
    assert sorted(run.info.status for run in runs()) == ["KILLED", "RUNNING"]
    with sweep(store):
        pass
    assert [run.info.status for run in runs()] == ["KILLED"] * 2


def test_what_was_done_before_is_added_once(store: str, runs: Runs) -> None:
    for _ in range(2):
        with sweep(store) as log:
            log.add([done("a"), done("a", 1), failed("b")])
    found = sorted((run.data.params["method"], run.data.params["seed"], run.info.status) for run in runs())
    # What could not be made is tried again each time.
    assert found == [("a", "0", "FINISHED"), ("a", "1", "FINISHED"), *[("b", "0", "FAILED")] * 2]


def test_a_store_that_fails_does_not_stop_the_sweep(store: str, caplog: pytest.LogCaptureFixture) -> None:
    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("http://me:secret@host refused")

    with caplog.at_level(logging.WARNING), MlflowRuns(Gone(), "http://host", "sweep") as log:  # type: ignore[arg-type]
        log.start([trial()])
        log.end([done()])
    (told,) = caplog.messages
    assert told.startswith("MLflow at http://host takes no more runs (")
    assert "secret" not in told


_ANSWERS = {
    "experiments/search": {"experiments": []},
    "experiments/get-by-name": {"experiment": {"experiment_id": "7"}},
    "runs/search": {"runs": []},
    "runs/create": {"run": {"info": {"run_id": "a", "run_name": "a", "experiment_id": "7", "status": "RUNNING"}}},
}
_ANSWERS["runs/get"] = _ANSWERS["runs/create"]


class _Server(BaseHTTPRequestHandler):
    """As much of MLflow's server as a run needs: the real one needs an older pyarrow than the pinned one."""

    asked: list[tuple[str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.partition("?")[0].partition("/mlflow/")[2]
        self.asked.append((name, self.headers.get("Authorization", "")))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(_ANSWERS.get(name, {})).encode())

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    _Server.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def test_a_password_reaches_the_server_and_nothing_else(
    server: ThreadingHTTPServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow itself prints the address of every run that ends."""
    with caplog.at_level(logging.DEBUG), open_runs(f"http://me:secret@127.0.0.1:{server.server_port}", "sweep") as log:
        log.start([trial()])
        log.end([done()])
    names = [name for name, _ in _Server.asked]
    assert {"runs/create", "runs/log-batch", "runs/update"} <= set(names)
    assert {given for _, given in _Server.asked} == {"Basic " + base64.b64encode(b"me:secret").decode()}
    assert capfd.readouterr().out == ""
    assert "secret" not in caplog.text


def test_a_store_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    for uri, said in {
        "mlruns": r"--mlflow mlruns is a folder, .*; name a database, such as sqlite:///mlflow\.db, or a server\.",
        "sqlite://x": "--mlflow sqlite://x: Invalid SQLite URL: sqlite://x.",
        "http://me:secret@127.0.0.1:1": "--mlflow http://127.0.0.1:1: API request to .* failed .*refused.*",
        "mssql+none://me:secret@127.0.0.1:1/runs": r"--mlflow mssql\+none://127\.0\.0\.1:1/runs: .*mssql.none.*\.",
    }.items():
        with pytest.raises(DasError) as told:
            open_runs(uri, "sweep")
        assert re.fullmatch(said, str(told.value)), str(told.value)
        assert "secret" not in str(told.value)


def test_without_mlflow_nothing_is_written() -> None:
    with open_runs(None, "sweep") as log:
        log.start([trial()])
        log.end([done()])
        log.add([done()])
