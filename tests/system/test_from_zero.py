"""A cluster of no nodes and an autoscaler: verbs bring up what they need, or say in time that it cannot be had.

All tests that need the autoscaler are in this file, so that one process of the run starts one.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from autoscaler_kit import AutoscaledHead
from system_kit import blocks_csv, errors

import distill_at_scale as das

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from prepare_kit import inline_prepare

Done = subprocess.CompletedProcess[str]
MF = ("--model", "mf", "--set", "epochs=2,dim=8")


@pytest.fixture(scope="module")
def head(run_folder: Path) -> Iterator[AutoscaledHead]:
    head = AutoscaledHead(run_folder / "zero")
    head.start()
    yield head
    head.stop()
    assert head.nodes() == -1, "the head is gone, and its nodes too"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("zero")
    (folder / "log.csv").write_bytes(blocks_csv())
    return inline_prepare(input=str(folder / "log.csv"), output=str(folder / "data"), shards=3).uri


@pytest.fixture(scope="module")
def at_once(head: AutoscaledHead, data: str) -> dict[str, Done]:
    """Verbs of several users at the same time, for whom one set of nodes comes."""
    folder = Path(data).parent
    assert head.nodes() == 0
    lines = {
        "prepare": ("prepare", "--input", str(folder / "log.csv"), "--output", str(folder / "prepared")),
        "fit": ("fit", "--data", data, *MF, "--workers", "2", "--output", str(folder / "mf")),
        "too many": ("fit", "--data", data, *MF, "--workers", "9", "--output", str(folder / "too-many")),
    }
    with ThreadPoolExecutor(len(lines)) as pool:
        return dict(zip(lines, pool.map(lambda line: head.das(*line), lines.values())))


def test_a_log_is_prepared_from_zero(at_once: dict[str, Done], data: str) -> None:
    assert at_once["prepare"].returncode == 0, at_once["prepare"].stderr
    assert das.Dataset.open(str(Path(data).parent / "prepared")).n_rows == 1440


def test_two_workers_from_zero(at_once: dict[str, Done], data: str) -> None:
    assert at_once["fit"].returncode == 0, at_once["fit"].stderr
    assert das.load_model(str(Path(data).parent / "mf")).n_items == 40


def test_what_no_node_type_gives_is_refused(at_once: dict[str, Done]) -> None:
    assert at_once["too many"].returncode == 1
    (said,) = errors(at_once["too many"].stderr)
    assert "--workers 9 needs a CPU for each, but the cluster can have 5 at most: 3 nodes of type cpu (1 CPU)" in said


@pytest.mark.slow
def test_a_gpu_brings_up_the_gpu_group(head: AutoscaledHead, data: str, tmp_path: Path) -> None:
    done = head.das("fit", "--data", data, *MF, "--gpu", "--output", str(tmp_path / "mf"))
    # The node came, and its GPU is none.
    assert done.returncode == 1
    (said,) = errors(done.stderr)
    assert "gives Ray a GPU that PyTorch cannot use" in said


WAITS = """
import sys
import distill_at_scale as das
from distill_at_scale.errors import ClusterError
from distill_at_scale.pipelines.runtime import resources, session, waiting

with session.ensure(sys.argv[1]), waiting.patience("12s"):
    try:
        with waiting.provided(resources.Need(1, 1, 4)):
            print("it came")
    except ClusterError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_wait_is_told_and_ends(head: AutoscaledHead) -> None:
    done = head.python("-c", WAITS, head.address)
    assert done.returncode == 0, done.stderr
    assert "waiting for nodes since 10 s: 1 CPU and 4 GPUs asked for; " in done.stderr
    assert "coming: 1 of type rare" in done.stderr
    # Among notes of Ray's own.
    assert "The nodes did not come within 12 s (--wait-for-nodes): 1 CPU and 4 GPUs asked for; " in done.stdout


@pytest.mark.slow
def test_the_nodes_go_again(head: AutoscaledHead, data: str) -> None:
    deadline = time.monotonic() + 120
    while head.nodes():
        assert time.monotonic() < deadline, f"{head.nodes()} nodes are still there"
        time.sleep(0.5)


MATRIX = {
    "prepare": "prepare --input LOG --shards 3",
    "sample": "sample --data DATA --sampler svp_mf --budget 0.2 --proxy-epochs 2",
    "fit": "fit --data DATA --model mf --set epochs=2,dim=8 --workers 2",
    "distill_cf": "distill --data DATA --users 8 --set steps=4 --workers 2",
    "farzi": "distill --data DATA --method farzi --sequences 6 --length 6 "
    "--set steps=2,horizon=4,window=2,pool=1,teachers=1,consensus=10 --workers 2",
    "sweep": "sweep --data DATA --methods random,svp_mf --budgets 0.5 --models popularity,mf --set mf.epochs=1",
    "predict": "predict --data DATA --model EASE",
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", MATRIX)
def test_every_verb_runs_from_zero(head: AutoscaledHead, data: str, tmp_path: Path, verb: str) -> None:
    """Each begins with no node, and leaves none."""
    words = {"LOG": str(Path(data).parent / "log.csv"), "DATA": data, "EASE": str(tmp_path / "ease")}
    if verb == "predict":
        fitted = das.models.Ease().fit(das.Dataset.open(data))
        fitted.save(words["EASE"])
    test_the_nodes_go_again(head, data)
    line = [words.get(word, word) for word in MATRIX[verb].split()]
    done = head.das(*line, "--output", str(tmp_path / "output"), "--wait-for-nodes", "5m", timeout=600)
    assert done.returncode == 0, done.stderr
    test_the_nodes_go_again(head, data)
