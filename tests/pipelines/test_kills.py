"""prepare is killed, again and again, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from prepare_kit import checksums, inline_prepare, paths_below, random_rows, write_logs

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import outputs

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, Any] = {"shards": 4, "min_user": 6, "min_item": 6, "max_bad_share": 0.1}
# Where the driver dies, in the order in which prepare comes to these points; "before" leaves a draft behind.
DRIVER_DEATHS = [
    ("before", r"_work/plan\.json$"),
    ("before", r"/quarantine/part-\d+\.parquet$"),
    ("after", r"_work/fragments/part-\d+\.json$"),
    ("after", r"_work/items/level-0-00000\.arrow$"),
    ("after", r"_work/buckets/part-0000[12]\.json$"),
    ("after", r"_work/core/round-001/part-00000\.json$"),
    ("before", r"_work/core/alive-001\.json$"),
    ("after", r"/out/shards/part-0000[12]\.parquet$"),
    ("before", r"/out/items\.parquet$"),
    ("before", r"/out/manifest\.json$"),
]
WORKER_DEATHS = [
    ("before", r"_work/fragments/part-00001\.arrow$"),
    ("after", r"/quarantine/part-\d+\.parquet$"),
    ("after", r"_work/fragments/part-00002\.json$"),
    ("before", r"_work/items/level-0-00000\.arrow$"),
    ("before", r"_work/buckets/part-00003\.arrow$"),
    ("after", r"_work/core/round-000/part-00000\.json$"),
    ("after", r"_work/core/alive-001\.arrow$"),
    ("before", r"/out/users/part-00000\.parquet$"),
    ("after", r"_work/shards/part-00002\.json$"),
    ("before", r"/out/items\.parquet$"),
]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Four files; every one has some bad rows, and the k-core takes more than one round."""
    folder = tmp_path_factory.mktemp("kills")
    paths = write_logs(folder, random_rows(21, 4000, 300, 200), 4)
    for path in paths:
        with open(path, "a") as file:
            file.write("17,18,nan,1600000000\n17,,3,1600000000\n")
    return paths


@pytest.fixture(scope="module")
def undisturbed(logs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    dataset = inline_prepare(input=logs, output=str(tmp_path_factory.mktemp("undisturbed") / "out"), **SETTINGS)
    assert dataset.manifest.dropped["min_item"] > 0
    assert len(dataset.shards) == 4
    return dataset


class Runs:
    """Runs of one and the same `das prepare`, each with a Ray of its own, in a folder of their own."""

    def __init__(self, folder: Path, logs: list[str], ray_folder: Path) -> None:
        self.ray_folder = ray_folder
        self.folder, self.output = folder, folder / "out"
        self.tag = f"das-kills-{os.getpid()}-{time.monotonic_ns()}"
        (folder / "site").mkdir()
        shutil.copy(Path(__file__).with_name("reaper.py"), folder / "site" / "sitecustomize.py")
        for path in logs:
            shutil.copy2(path, folder)
        names = [Path(path).name for path in logs]
        options = [x for key, value in SETTINGS.items() for x in ("--" + key.replace("_", "-"), str(value))]
        # Relative paths: the workers' folder is another.
        self.command = [sys.executable, "-m", "distill_at_scale.cli", "prepare", "--json", "--input", *names]
        self.command += ["--output", "out", *options]

    def run(self, deaths: list[tuple[str, str]], who: str) -> subprocess.CompletedProcess[str]:
        """Runs until it ends or dies at one of ``deaths``, and until all of its processes are gone."""
        marks = [self.folder / f"mark-{time.monotonic_ns()}-{k}" for k in range(len(deaths))]
        plan = [{"when": w, "file": f, "who": who, "mark": str(m)} for (w, f), m in zip(deaths, marks)]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.folder / "site"), str(REPOSITORY)]),
            "DAS_REAPER": json.dumps(plan),
            "DAS_TEST_TAG": self.tag,
            "RAY_TMPDIR": str(self.ray_folder),
            # Ray would start the workers at nice 15, behind everything else on a busy machine.
            "RAY_worker_niceness": "0",
        }
        with open(self.folder / "stdout", "w") as out, open(self.folder / "stderr", "w") as err:
            done = subprocess.run(self.command, cwd=self.folder, env=env, stdout=out, stderr=err, timeout=180)
        stdout, stderr = (self.folder / "stdout").read_text(), (self.folder / "stderr").read_text()
        missed = [death for death, mark in zip(deaths, marks) if not mark.exists()]
        assert not missed, f"never came to {missed}: {stderr}"
        deadline = time.monotonic() + 60
        while left := self._processes():
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.1)
        return subprocess.CompletedProcess(self.command, done.returncode, stdout, stderr)

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DAS_TEST_TAG") == self.tag and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(str(process))
            except psutil.Error:
                continue
        return found

    def records(self) -> dict[str, tuple[int, int]]:
        """Every finished part's record and files, and which files they are."""
        found = {}
        for record in (self.output / "_work").rglob("*.json"):
            if record.name == "plan.json":
                continue
            stem = record.name.removesuffix(".json")
            parts = [path for path in record.parent.iterdir() if path.name.startswith(stem)]
            for folder in {"fragments": ["quarantine"], "shards": ["shards", "users"]}.get(record.parent.name, []):
                parts += (self.output / folder).glob(f"{stem}.parquet")
            for path in parts:
                info = path.stat()
                found[str(path)] = (info.st_ino, info.st_mtime_ns)
        return found


def expected_paths(dataset: Dataset) -> set[str]:
    m = dataset.manifest
    files = {"manifest.json", "run.json", m.items.path, *m.quarantine.files}
    files |= {file.path for shard in m.shards for file in (shard.data, shard.users)}
    return files | {path.split("/")[0] for path in files}


def test_a_kill_at_every_file(tmp_path: Path, logs: list[str], undisturbed: Dataset) -> None:
    """Without Ray, so that it is cheap: driver and parts in one process, which dies before and after every rename."""
    output = tmp_path / "out"
    settings = json.dumps({"input": logs, "output": str(output), **SETTINGS})
    path = os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_kill.py")), settings],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    deaths = [json.loads(line) for line in done.stdout.splitlines()]
    written = {death["file"].removeprefix(f"{output}/") for death in deaths}
    assert len(deaths) == 2 * len(written)
    assert {path for path in expected_paths(undisturbed) if "." in path} < written
    last = {"when": "after", "file": str(output / "manifest.json"), "state": undisturbed.manifest.fingerprint}
    assert deaths[-1] == last
    for death in deaths[:-1]:
        assert "is no dataset: a run has not finished there" in death["state"]
    dataset = Dataset.open(str(output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(output) == expected_paths(dataset)


# Every death costs a start of Ray; `test_a_kill_at_every_file` goes through them all without it.
@pytest.mark.parametrize(
    "deaths", [DRIVER_DEATHS[5:6], pytest.param(DRIVER_DEATHS, marks=pytest.mark.slow)], ids=["one", "ten"]
)
def test_kills_of_the_driver(
    tmp_path: Path, logs: list[str], undisturbed: Dataset, run_folder: Path, deaths: list[tuple[str, str]]
) -> None:
    """One job, killed at these points one after the other, each time further on, then once more while it tidies up."""
    runs = Runs(tmp_path, logs, run_folder / "kills")
    finished: dict[str, tuple[int, int]] = {}
    seen = []
    for death in deaths:
        died = runs.run([death], "driver")
        assert died.returncode == -signal.SIGKILL, died.stderr
        with pytest.raises(DasError, match="is no dataset"):
            Dataset.open(str(runs.output))
        now = runs.records()
        assert finished.items() <= now.items(), "a finished part was built again"
        finished = now
        seen.append(len(finished))
    assert seen == sorted(seen)
    assert len(set(seen)) > len(deaths) // 2, seen
    assert seen[-1] > 0
    inspected = subprocess.run(
        [sys.executable, "-m", "distill_at_scale.cli", "inspect", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert inspected.returncode == 1
    assert inspected.stderr == (
        f"error: {runs.output} is no dataset: a run has not finished there; run the same command again to finish it.\n"
    )

    if len(deaths) > 1:
        died = runs.run([("after", r"/out/manifest\.json$")], "driver")
        assert died.returncode == -signal.SIGKILL
        assert checksums(Dataset.open(str(runs.output))) == checksums(undisturbed)
        assert (runs.output / "_work").exists()
        assert finished.items() <= runs.records().items()
        # All parts were there: the run before this one had died with its manifest all but written.
        run = json.loads((runs.output / "run.json").read_text())
        assert run["reused_parts"] == sum(stage["tasks"] for stage in run["stages"])

    done = runs.run([], "driver")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["fingerprint"] == undisturbed.manifest.fingerprint
    dataset = Dataset.open(str(runs.output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(runs.output) == expected_paths(dataset)
    again = runs.run([], "driver")
    assert again.returncode == 1
    assert "holds a dataset already" in again.stderr


@pytest.mark.parametrize(
    "deaths", [WORKER_DEATHS[1::4], pytest.param(WORKER_DEATHS, marks=pytest.mark.slow)], ids=["three", "ten"]
)
def test_kills_of_workers(
    tmp_path: Path, logs: list[str], undisturbed: Dataset, run_folder: Path, deaths: list[tuple[str, str]]
) -> None:
    """Workers die at these points of one run, which ends by itself as if they had not."""
    runs = Runs(tmp_path, logs, run_folder / "kills")
    done = runs.run(deaths, "worker")
    assert done.returncode == 0, done.stderr
    dataset = Dataset.open(str(runs.output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(runs.output) == expected_paths(dataset)


@pytest.mark.parametrize("left", ["some stages", "the plan", "an empty folder"])
def test_kill_while_tidying_up(tmp_path: Path, logs: list[str], undisturbed: Dataset, left: str) -> None:
    """The manifest is there, and the work of the stages half removed: nothing is lost, nothing is built again."""
    output = tmp_path / "out"
    asked = {"input": logs, "output": str(output), **SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_at_scale.pipelines.outputs.remove_work", lambda output: None)
        inline_prepare(**asked)
    work = output / "_work"
    before = (output / "manifest.json").stat().st_ino
    shutil.rmtree(work / "fragments")
    if left != "some stages":
        for folder in [path for path in work.iterdir() if path.is_dir()]:
            shutil.rmtree(folder)
    if left == "an empty folder":
        (work / "plan.json").unlink()
        with pytest.raises(DasError, match="holds a dataset already"):
            inline_prepare(**asked)
    else:
        assert checksums(inline_prepare(**asked)) == checksums(undisturbed)
    assert (output / "manifest.json").stat().st_ino == before
    assert paths_below(output) - {"_work"} == expected_paths(undisturbed)


def test_kill_while_an_old_dataset_is_cleared_away(tmp_path: Path, logs: list[str], undisturbed: Dataset) -> None:
    """At whatever removal --overwrite dies: the place is still known, never half a dataset, and the next run ends."""
    output = tmp_path / "out"
    asked = {"input": logs, "output": str(output), **SETTINGS, "overwrite": True}
    died = 0
    for survived in range(20):
        inline_prepare(**(asked | {"shards": 2}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "remove", _only(survived, storage.remove))
            patch.setattr(outputs, "remove_strays", lambda output, manifest: None)
            patch.setattr(outputs, "remove_work", lambda output: None)
            try:
                inline_prepare(**asked)
            except _Killed:
                died += 1
            else:
                break
        if (output / "manifest.json").exists():
            Dataset.open(str(output)).verify()
            with pytest.raises(DasError, match="holds a dataset already"):
                inline_prepare(**(asked | {"overwrite": False}))
        else:
            with pytest.raises(DasError, match="a run has not finished there"):
                Dataset.open(str(output))
        dataset = inline_prepare(**asked)
        assert checksums(dataset) == checksums(undisturbed)
        assert paths_below(output) == expected_paths(dataset)
    assert died > 5


class _Killed(BaseException):
    pass


def _only(times: int, function: Callable[[str], None]) -> Callable[[str], None]:
    """``function``, which can be called so many times."""
    left = iter(range(times))

    def call(uri: str) -> None:
        if next(left, None) is None:
            raise _Killed
        function(uri)

    return call
