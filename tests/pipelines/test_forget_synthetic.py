"""forget of synthetic data: they are those of a log that never had the users, and they say what they were made of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forget_kit import distilled, file_of, inline_forget
from prepare_kit import inline_prepare, write_logs
from test_distill_again import ROWS, SEQUENCES, rows_of

from distill_at_scale.config import DistillConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import create_model
from distill_at_scale.pipelines.distilling.distilled_again import parent_of
from distill_at_scale.report import show_forgotten, show_inspected

GONE = list(range(0, 90, 4))
METHODS: dict[str, dict[str, Any]] = {
    "distill_cf": {"users": 6, "set": ROWS},
    "farzi": {"sequences": 8, "length": 4, "set": SEQUENCES},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("forget")
    return inline_prepare(input=write_logs(folder, rows_of(range(90), 24), 2), output=str(folder / "data"), shards=1)


def made_of(data: Dataset, output: Path, method: str, **asked: Any) -> SyntheticDataset:
    settings = {**METHODS[method], "seed": 3, **asked}
    return distilled(DistillConfig(data=data.uri, method=method, output=str(output), **settings))


@pytest.fixture(scope="module")
def made(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return made_of(data, tmp_path_factory.mktemp("made") / "made", "distill_cf")


@pytest.mark.parametrize(
    ("method", "model"), [("distill_cf", "ease"), pytest.param("farzi", "sasrec", marks=pytest.mark.slow)]
)
def test_the_result_is_that_of_a_log_which_never_had_them(
    tmp_path: Path, data: Dataset, method: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_of(data, tmp_path / "made", method)
    ids = file_of(tmp_path, GONE)
    result = inline_forget(data=made.uri, users=ids, output=str(tmp_path / "new"))
    new = SyntheticDataset.open(str(tmp_path / "new"))
    never = [row for row in rows_of(range(90), 24) if row[0] not in GONE]
    fresh = inline_prepare(input=write_logs(tmp_path / "logs", never, 2), output=str(tmp_path / "fresh"), shards=1)
    assert fresh.item_ids().equals(data.item_ids())
    expected = made_of(fresh, tmp_path / "expected", method).manifest
    assert new.manifest.data.sha256 == expected.data.sha256 != made.manifest.data.sha256
    assert new.manifest.items.sha256 == expected.items.sha256
    assert new.manifest.config == made.manifest.config
    assert (new.manifest.parent.n_users, new.manifest.parent.forgotten, new.manifest.earlier) == (67, 23, None)
    assert result.notes[1].startswith("Exact: ")
    assert set(new.manifest.notes) <= set(result.notes)

    fitted = create_model(model, {"epochs": 2} if model == "sasrec" else {}).fit(new)
    assert np.isfinite(fitted.score(data.histories("test", 0)[0].take(np.arange(5)))).all()

    show_forgotten(result)
    show_inspected(new)
    show_inspected(Dataset.open(result.remaining or ""))
    said = capsys.readouterr().out
    assert "Dependence(" not in said
    assert f"log without them  {tmp_path}/new-log" in said
    assert "forgotten  23 users of the log before" in said
    assert "forgotten    23 users" in said


def test_quick_is_not_exact_and_says_what_it_started_from(
    tmp_path: Path, made: SyntheticDataset, data: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    result = inline_forget(data=made.uri, users=file_of(tmp_path, GONE), output=str(tmp_path / "new"), quick=True)
    assert any(note.startswith("Not exact: ") for note in result.notes)
    new = SyntheticDataset.open(str(tmp_path / "new"))
    assert new.manifest.earlier is not None
    assert new.manifest.earlier.sha256 == made.manifest.data.sha256
    show_inspected(new)
    assert f"started from  {made.uri}" in capsys.readouterr().out


def test_what_was_started_from_an_earlier_result_is_made_from_scratch(
    tmp_path: Path, made: SyntheticDataset, data: Dataset
) -> None:
    continued = made_of(data, tmp_path / "continued", "distill_cf", from_=made.uri)
    asked: dict[str, Any] = {"data": continued.uri, "users": file_of(tmp_path, GONE)}
    result = inline_forget(**asked, output=str(tmp_path / "new"))
    assert SyntheticDataset.open(result.uri or "").manifest.earlier is None
    assert any(f"had been started from {made.uri}, this one from scratch" in note for note in result.notes)


def test_users_are_forgotten_one_after_another(tmp_path: Path, data: Dataset) -> None:
    """Both removals are counted, and leave what one removal leaves."""
    once = inline_forget(data=data.uri, users=file_of(tmp_path, [1, 2, 5]), output=str(tmp_path / "once"))
    first = inline_forget(data=data.uri, users=file_of(tmp_path, [2]), output=str(tmp_path / "first"))
    second = inline_forget(data=first.uri, users=file_of(tmp_path, [1, 5]), output=str(tmp_path / "second"))
    one, two = (Dataset.open(result.uri or "") for result in (once, second))
    assert two.to_frame().equals(one.to_frame())
    assert two.manifest.dropped == one.manifest.dropped
    m = two.manifest
    assert m.source["rows"] == m.quarantine.rows + sum(m.dropped.values()) + m.n_rows
    assert made_of(two, tmp_path / "made", "distill_cf").manifest.parent.forgotten == 3


def test_the_log_may_have_moved(tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs", rows_of(range(90), 24), 1)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), shards=1)
    made = made_of(data, tmp_path / "made", "distill_cf")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    asked: dict[str, Any] = {"data": made.uri, "users": file_of(tmp_path, GONE), "output": str(tmp_path / "new")}
    with pytest.raises(DasError, match=r"/made was distilled from .*/data, where no dataset is now; .* by --log\.$"):
        inline_forget(**asked)
    assert inline_forget(**asked, log=str(tmp_path / "moved")).users == len(GONE)


def test_a_private_result_is_known_by_its_items_and_number_of_users(
    tmp_path: Path, made: SyntheticDataset, data: Dataset
) -> None:
    """It has no fingerprint of its log."""
    parent = made.manifest.parent.model_copy(update={"fingerprint": ""})
    private = SyntheticDataset(made.uri, made.manifest.model_copy(update={"parent": parent}))
    assert parent_of(private, None).uri == data.uri
    left = inline_forget(data=data.uri, users=file_of(tmp_path, [1]), output=str(tmp_path / "left"))
    with pytest.raises(DasError, match=r"/left is not the dataset .* \(it had 90 users, and the items of the result\)"):
        parent_of(private, left.uri)


def test_forgetting_in_a_private_result(tmp_path: Path, data: Dataset) -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    made = made_of(data, tmp_path / "made", "distill_cf", set={"steps": 3}, privacy={"epsilon": 8.0})
    asked: dict[str, Any] = {"data": made.uri, "users": file_of(tmp_path, GONE)}
    result = inline_forget(**asked, output=str(tmp_path / "new"))
    assert any("The ε of the old result and of this one add up" in note for note in result.notes)
    assert not any(note.startswith("Exact") for note in result.notes)
    new = SyntheticDataset.open(str(tmp_path / "new")).manifest
    assert (new.privacy is not None, new.parent.fingerprint, new.parent.n_users) == (True, "", 67)
    with pytest.raises(DasError, match=r"--quick .* cannot be a start; leave --quick out"):
        inline_forget(**asked, output=str(tmp_path / "quick"), quick=True)
    assert not (tmp_path / "quick-log").exists()


def test_what_is_refused_before_anything_is_written(tmp_path: Path, made: SyntheticDataset, data: Dataset) -> None:
    asked: dict[str, Any] = {"data": made.uri, "output": str(tmp_path / "new")}

    def refused(message: str, ids: list[int], error: type[DasError] = DasError, **other: Any) -> None:
        with pytest.raises(error, match=message):
            inline_forget(**(asked | {"users": file_of(tmp_path, ids)} | other))
        assert {path.name for path in tmp_path.iterdir()} <= {"ids.txt", "factors"}

    refused("names all users", list(range(90)))
    refused(r"leaves 5 users, fewer than the 6 users of .*/made; forget them in .*/data", list(range(85)))
    refused(r"ids\S*: the user asked for is not in .*: 100", [100])
    refused("there are no ids in it", [], SettingError)
    refused("lie in one another", [1], SettingError, remaining=f"{tmp_path}/new/log")
    factors = made_of(data, tmp_path / "factors", "distill_cf", set={**ROWS, "rank": 4})
    refused(r"--quick .* has rows with a rank.*leave --quick out", [1], SettingError, data=factors.uri, quick=True)
    # Too few to distill, but enough to tell what depends on them.
    told = inline_forget(**asked, users=file_of(tmp_path, list(range(85))), dry_run=True)
    assert 0.8 < (told.explained or 0) <= 1
