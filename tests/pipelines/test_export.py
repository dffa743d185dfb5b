"""Ids that a spreadsheet takes for formulas are escaped on request; ids that a file cannot hold are refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import Manifest
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.pipelines.export import export, without_formulas

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import manifest_of, write_parquet
from synthetic_kit import write_synthetic

IDS = ["=1+1", "+33", "-5", "@SUM(A1)", "plain", "a=b"]
DESCRIBED: dict[str, Any] = {
    "method": "distill_cf", "family": "free", "config": {}, "curve": [], "settings": {}, "cost": {}, "made_with": {},
    "n_rows": 6,
}  # fmt: skip


def make_synthetic(folder: Path, ids: list[Any]) -> str:
    """One synthetic user of all items, which have these ids."""
    rows = [(0, item, 1.0, item, 0) for item in range(len(ids))]
    fields = manifest_of(folder / "parent", [rows], [1], len(ids))
    items = pl.read_parquet(folder / "parent" / "items.parquet").with_columns(pl.Series("item_id", ids))
    fields["items"] = write_parquet(str(folder / "parent"), "items.parquet", items.to_arrow()).model_dump()
    fields["id_types"] = {"user_id": "string", "item_id": "string"}
    Manifest.model_validate(fields).write(str(folder / "parent"))
    parent = Dataset.open(str(folder / "parent"))
    made = np.ones((1, len(ids)), np.float32)
    return write_synthetic(str(folder / "made"), made, parent, DESCRIBED).uri


def exported_ids(path: str) -> list[str]:
    if path.endswith(".parquet"):
        return pl.read_parquet(path)["item_id"].to_list()
    return [line.split("\t")[1] for line in Path(path).read_text().splitlines()[1:]]


def test_an_output_inside_the_data_is_refused(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path, ["a"])
    for place in (made, f"{made}/log"):
        with pytest.raises(SettingError, match=r"lies in the data exported; choose another --output\.$"):
            export(data=made, output=place, overwrite=True)
    assert not Path(made, "log").exists()


@pytest.mark.parametrize("kind", ["parquet", "recbole"])
def test_formulas_are_escaped_on_request_only(tmp_path: Path, kind: str) -> None:
    made = make_synthetic(tmp_path, IDS)
    plain = export(data=made, output=str(tmp_path / "plain"), format=kind)
    assert (exported_ids(plain.uri), plain.escaped) == (IDS, 0)
    escaped = export(data=made, output=str(tmp_path / "escaped"), format=kind, escape_formulas=True)
    assert exported_ids(escaped.uri) == [f"'{one}" for one in IDS[:4]] + IDS[4:]
    assert escaped.escaped == 4


def test_ids_that_a_line_cannot_hold_are_refused_or_made_blank(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path, ["\ttab", "two\nlines", "plain"])
    with pytest.raises(DasError, match=r"item id '\\ttab' has a tab or line end.*--escape-formulas"):
        export(data=made, output=str(tmp_path / "log"), format="recbole")
    found = export(data=made, output=str(tmp_path / "log"), format="recbole", escape_formulas=True)
    assert found.uri == f"{tmp_path}/log/log.inter"
    assert exported_ids(found.uri) == ["' tab", "two lines", "plain"]
    assert found.escaped == 2


@pytest.mark.parametrize("kind", ["csv", "hf"])
def test_synthetic_users_in_other_formats(kind: str, tmp_path: Path) -> None:
    found = export(data=make_synthetic(tmp_path, IDS), output=str(tmp_path / "log"), format=kind)
    if kind == "csv":
        assert found.uri == f"{tmp_path}/log/interactions.csv"
        assert pl.read_csv(found.uri).rows() == [(0, item) for item in IDS]
        return
    assert pl.read_parquet(f"{found.uri}/data/train-00000-of-00001.parquet")["item_id"].to_list() == IDS
    card = Path(found.uri, "README.md").read_text()
    assert "1 synthetic user, learned from 1 real user by distill_cf" in card
    assert "without differential privacy" in card


def test_synthetic_data_have_no_splits(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="--splits is not of synthetic data"):
        export(data=make_synthetic(tmp_path, IDS), output=str(tmp_path / "log"), splits=["train"])


def test_numbers_are_no_formulas_and_two_ids_stay_two() -> None:
    assert without_formulas(pl.Series("item_id", [-5, 3])).to_list() == [-5, 3]
    with pytest.raises(DasError, match=r"writes the ids .*=1.* alike"):
        without_formulas(pl.Series("item_id", ["=1", "'=1", "x"]))
