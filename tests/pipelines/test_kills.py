"""prepare is killed, again and again, and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kill_kit import Runs, every_death
from prepare_kit import checksums, inline_prepare, paths_below, random_rows, write_logs

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.log_record import read_log_record
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import output_folder

SETTINGS: dict[str, Any] = {"shards": 4, "min_user": 6, "min_item": 6, "max_bad_share": 0.1}
# Where the driver dies, in the order in which prepare comes to these points; "before" leaves a draft behind.
DRIVER_DEATHS = [
    ("driver", "before", r"_work/plan\.json$"),
    ("driver", "before", r"/quarantine/part-\d+\.parquet$"),
    ("driver", "after", r"_work/fragments/part-\d+\.json$"),
    ("driver", "after", r"_work/items/level-0-00000\.arrow$"),
    ("driver", "after", r"_work/buckets/part-0000[12]\.json$"),
    ("driver", "after", r"_work/core/round-001/part-00000\.json$"),
    ("driver", "before", r"_work/core/alive-001\.json$"),
    ("driver", "after", r"/out/shards/part-0000[12]\.parquet$"),
    ("driver", "before", r"/out/items\.parquet$"),
    ("driver", "before", r"/out/manifest\.json$"),
]
WORKER_DEATHS = [
    ("worker", "before", r"_work/fragments/slab-00/part-00001\.chunks$"),
    ("worker", "after", r"/quarantine/part-\d+\.parquet$"),
    ("worker", "after", r"_work/fragments/part-00002\.json$"),
    ("worker", "before", r"_work/items/level-0-00000\.arrow$"),
    ("worker", "before", r"_work/buckets/part-00003\.arrow$"),
    ("worker", "after", r"_work/core/round-000/part-00000\.json$"),
    ("worker", "after", r"_work/core/alive-001\.arrow$"),
    ("worker", "before", r"/out/users/part-00000\.parquet$"),
    ("worker", "after", r"_work/shards/part-00002\.json$"),
    ("worker", "before", r"/out/items\.parquet$"),
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


def prepare_runs(folder: Path, logs: list[str], ray_folder: Path) -> Runs:
    """Runs of one and the same `das prepare` into ``folder / "out"``."""
    for path in logs:
        shutil.copy2(path, folder)
    names = [Path(path).name for path in logs]
    options = [x for key, value in SETTINGS.items() for x in ("--" + key.replace("_", "-"), str(value))]
    # Relative paths: the workers' folder is another.
    return Runs(folder, ray_folder, "prepare", "--input", *names, "--output", "out", *options)


def records(output: Path) -> dict[str, tuple[int, int]]:
    """Every finished part's record and files, and which files they are."""
    found = {}
    for record in (output / "_work").rglob("*.json"):
        if record.name == "plan.json":
            continue
        stem = record.name.removesuffix(".json")
        parts = [path for path in record.parent.iterdir() if path.name.startswith(stem)]
        for folder in {"fragments": ["quarantine"], "shards": ["shards", "users"]}.get(record.parent.name, []):
            parts += (output / folder).glob(f"{stem}.parquet")
        for path in parts:
            info = path.stat()
            found[str(path)] = (info.st_ino, info.st_mtime_ns)
    return found


def expected_paths(dataset: Dataset) -> set[str]:
    m = dataset.manifest
    files = {"manifest.json", "run.json", "log.json", m.items.path, *m.quarantine.files}
    files |= {rest.file.path for rest in read_log_record(dataset.uri, m.fingerprint).rest}
    files |= {file.path for shard in m.shards for file in (shard.data, shard.users)}
    return files | {path.split("/")[0] for path in files}


@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["before it", "before and after it"]
)
def test_a_kill_at_every_file(after: bool, tmp_path: Path, logs: list[str], undisturbed: Dataset) -> None:
    """Without Ray, so that it is cheap: driver and parts in one process, which dies at every rename."""
    output = tmp_path / "out"
    deaths = every_death("every_kill.py", {"input": logs, "output": str(output), "after": after, **SETTINGS})
    written = {death["file"].removeprefix(f"{output}/") for death in deaths}
    assert len(deaths) == (1 + after) * len(written)
    assert {path for path in expected_paths(undisturbed) if "." in path} < written
    assert deaths[-1]["file"] == str(output / "manifest.json")
    if after:
        last = deaths.pop()
        assert (last["when"], last["state"]) == ("after", undisturbed.manifest.fingerprint)
    for death in deaths:
        assert "is not a dataset: a run has not finished there" in death["state"]
    dataset = Dataset.open(str(output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(output) == expected_paths(dataset)


# Every death costs a start of Ray; `test_a_kill_at_every_file` goes through them all without it.
@pytest.mark.slow
def test_kills_of_the_driver(tmp_path: Path, logs: list[str], undisturbed: Dataset, run_folder: Path) -> None:
    """One job, killed at these points one after the other, each time further on, then once more while it tidies up."""
    runs = prepare_runs(tmp_path, logs, run_folder / "kills")
    output, finished = tmp_path / "out", dict[str, tuple[int, int]]()
    seen = []
    for death in DRIVER_DEATHS:
        runs.run([death])
        with pytest.raises(DasError, match="is not a dataset"):
            Dataset.open(str(output))
        now = records(output)
        assert finished.items() <= now.items(), "a finished part was built again"
        finished = now
        seen.append(len(finished))
    assert seen == sorted(seen)
    assert len(set(seen)) > len(DRIVER_DEATHS) // 2, seen
    assert seen[-1] > 0
    inspected = subprocess.run(
        [sys.executable, "-m", "distill_at_scale.cli", "inspect", "out"], cwd=tmp_path, capture_output=True, text=True
    )
    assert inspected.returncode == 1
    assert inspected.stderr == (
        f"error: {output} is not a dataset: a run has not finished there; run the same command again to finish it.\n"
    )

    runs.run([("driver", "after", r"/out/manifest\.json$")])
    assert checksums(Dataset.open(str(output))) == checksums(undisturbed)
    assert (output / "_work").exists()
    assert finished.items() <= records(output).items()
    # All parts were there: the run before this one had died with its manifest all but written.
    run = json.loads((output / "run.json").read_text())
    assert run["reused_parts"] == sum(stage["tasks"] for stage in run["stages"])

    done = runs.run([])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["fingerprint"] == undisturbed.manifest.fingerprint
    dataset = Dataset.open(str(output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(output) == expected_paths(dataset)
    again = runs.run([])
    assert again.returncode == 1
    assert "holds a dataset already" in again.stderr


@pytest.mark.slow
def test_kills_of_workers(tmp_path: Path, logs: list[str], undisturbed: Dataset, run_folder: Path) -> None:
    """Workers die at these points of one run, which ends by itself as if they had not."""
    runs = prepare_runs(tmp_path, logs, run_folder / "kills")
    done = runs.run(WORKER_DEATHS)
    assert done.returncode == 0, done.stderr
    output = tmp_path / "out"
    dataset = Dataset.open(str(output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert paths_below(output) == expected_paths(dataset)


@pytest.mark.parametrize("left", ["some stages", "the plan", "an empty folder"])
def test_kill_while_tidying_up(tmp_path: Path, logs: list[str], undisturbed: Dataset, left: str) -> None:
    """The manifest is there, and the work of the stages half removed: nothing is lost, nothing is built again."""
    output = tmp_path / "out"
    asked = {"input": logs, "output": str(output), **SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_at_scale.pipelines.runtime.output_folder.remove_work", lambda output: None)
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
    inline_prepare(**(asked | {"output": str(tmp_path / "old"), "shards": 2}))
    died = 0
    for survived in range(20):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(tmp_path / "old", output)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "remove", _only(survived, storage.remove))
            patch.setattr(output_folder, "remove_strays", lambda output, manifest, others: None)
            patch.setattr(output_folder, "remove_work", lambda output: None)
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
