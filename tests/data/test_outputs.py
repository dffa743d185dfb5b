"""Every verb refuses an output that it could not write before it works, or starts Ray, and says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import write_dataset

import distill_at_scale as das
from distill_at_scale.data import storage
from distill_at_scale.errors import DamagedFileError, OutputExistsError, StorageError
from distill_at_scale.finite_json import dumps
from distill_at_scale.genie.model import DataGenie
from distill_at_scale.genie.trials import as_trials, read_trials
from distill_at_scale.pipelines.genie import genie_train
from distill_at_scale.pipelines.report import report
from distill_at_scale.pipelines.runtime import output_folder

VERBS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "prepare": (das.prepare, {"input": ["{data}/log.csv"]}),
    "fit": (das.fit, {"data": "{data}", "model": "popularity"}),
    "evaluate": (das.evaluate, {"data": "{data}", "model": "nothing"}),
    "predict": (das.predict, {"data": "nothing", "model": "nothing"}),
    "sample": (das.sample, {"data": "{data}", "sampler": "random", "budget": ["0.5"]}),
    "distill": (das.distill, {"data": "{data}", "method": "sketch", "users": 1}),
    "export": (das.export, {"data": "nothing"}),
    "compare": (das.compare, {"data": "{data}", "samples": ["{data}"], "models": ["popularity", "ease"]}),
    "sweep": (das.sweep, {"data": "{data}", "methods": ["random"], "budgets": ["0.5"]}),
    "report": (report, {"sweep": "nothing"}),
    "fetch": (das.fetch, {"name": "ml-100k"}),
    "quickstart": (das.quickstart, {}),
    "genie train": (genie_train, {"sweeps": ["nothing"]}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("outputs") / "data"
    rows = [(u, i, 1.0, 10 * i, max(0, i - 3)) for u in range(3) for i in range(6)]
    write_dataset(folder, [rows], [3], 6)
    (folder / "log.csv").write_text("user_id,item_id,timestamp\n1,2,1500000000\n")
    return str(folder)


def call(verb: str, data: str, output: str, **more: Any) -> None:
    function, settings = VERBS[verb]
    given = {
        key: [one.format(data=data) for one in value]
        if isinstance(value, list)
        else value.format(data=data)
        if isinstance(value, str)
        else value
        for key, value in settings.items()
    }
    function(output=output, **given, **more)


@pytest.mark.parametrize("verb", VERBS)
def test_an_output_that_cannot_be_written_is_refused_at_once(verb: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    before = sorted(Path(data).rglob("*"))
    with pytest.raises(StorageError, match=r"file is a file, so no folder can be created there|Not a directory"):
        call(verb, data, f"{tmp_path}/file/deep/out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert sorted(Path(data).rglob("*")) == before


@pytest.mark.parametrize("verb", VERBS)
def test_credentials_in_an_address_are_refused(verb: str, data: str) -> None:
    with pytest.raises(das.DasError, match=r"s3://bucket/out.* was given with a user name or password") as told:
        call(verb, data, "s3://KEY:hun/ter2@bucket/out")
    assert "ter2" not in str(told.value)


def test_teachers_at_a_place_that_cannot_be_written(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file is a file"):
        das.distill(
            data=data, method="farzi", sequences=1, length=2, set={"width": 1}, output=f"{tmp_path}/out",
            teachers_at=f"{tmp_path}/file/teachers",
        )  # fmt: skip


def test_what_exists_keeps_its_class(data: str, tmp_path: Path) -> None:
    storage.write_json(f"{tmp_path}/model/model.json", {})
    with pytest.raises(OutputExistsError, match="holds a model already; choose another --output, or replace it with"):
        das.fit(data=data, model="popularity", output=f"{tmp_path}/model")
    with pytest.raises(OutputExistsError, match="holds other files"):
        das.prepare(input=[f"{data}/log.csv"], output=f"{tmp_path}/model")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"[1]"])
def test_a_plan_that_cannot_be_read_is_not_none(content: bytes, tmp_path: Path) -> None:
    """What it plans may be half done, and would be cleared."""
    assert output_folder.planned(f"{tmp_path}/plan.json") is None
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"plan\.json"):
        output_folder.planned(f"{tmp_path}/plan.json")


@pytest.mark.parametrize("at", [0, 3, 60, -20])
def test_damaged_trials_are_a_sentence(at: int, tmp_path: Path) -> None:
    as_trials([{"dataset": "d", "status": "done"}]).write_parquet(tmp_path / "trials.parquet")
    (tmp_path / "sweep.json").write_text(dumps({"data": {"uri": "d", "fingerprint": "f", "train_rows": 1}}))
    assert read_trials(str(tmp_path))[1].height == 1
    content = bytearray((tmp_path / "trials.parquet").read_bytes())
    content[at:] = bytes(20)
    (tmp_path / "trials.parquet").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"trials\.parquet (is damaged|differs)"):
        read_trials(str(tmp_path))


def test_a_genie_without_its_files_is_a_sentence(tmp_path: Path) -> None:
    shipped = Path(das.__file__).parent / "genie"
    found = next(path.parent for path in shipped.rglob("genie.json"))
    for path in found.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    DataGenie.load(str(tmp_path))
    for name in ("genie.safetensors", "cells.parquet", "features.parquet"):
        whole = (tmp_path / name).read_bytes()
        for broken in (whole[: len(whole) // 2], b"", None):
            (tmp_path / name).unlink()
            if broken is not None:
                (tmp_path / name).write_bytes(broken)
            with pytest.raises(DamagedFileError):
                DataGenie.load(str(tmp_path))
            (tmp_path / name).write_bytes(whole)
