"""Local paths of a verb's settings, and whether a node sees them as the driver does."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_at_scale.config import EvaluateConfig, FitConfig, PrepareConfig, QuickstartConfig
from distill_at_scale.config.values import ClusterConfig
from distill_at_scale.pipelines.runtime import local_paths
from distill_at_scale.pipelines.runtime.local_paths import Place
from distill_at_scale.validation import bare, has_choices

NOT_PATHS = {
    *("address", "by", "columns", "delimiter", "event", "event_column", "mlflow", "name", "propensity", "storage"),
    *("time_budget", "time_format", "time_unit", "wait_for_nodes", "weight", "workers"),
}


def kinds(of: type[ClusterConfig]) -> Iterator[type[ClusterConfig]]:
    for kind in of.__subclasses__():
        yield from (kind, *kinds(kind))


def test_every_setting_that_holds_text_is_a_path_or_known_to_be_none() -> None:
    """A new one has to be put into READ or WRITTEN, or into the list above."""
    unknown = {
        f"{kind.__name__}.{name}"
        for kind in kinds(ClusterConfig)
        if kind.__module__.startswith("distill_at_scale.")
        for name, field in kind.model_fields.items()
        if (bare(field) is str or str in typing.get_args(bare(field))[:1])
        and typing.get_origin(bare(field)) is not dict
        and not has_choices(field)
        and name not in {*local_paths.READ, *local_paths.WRITTEN, *NOT_PATHS}
    }
    assert unknown == set()


def test_paths_are_found_among_settings(tmp_path: Path) -> None:
    assert local_paths.local_places(FitConfig(data="s3://b/d", model="ease", output=f"file://{tmp_path}/m")) == [
        Place(f"{tmp_path}/m", True)
    ]
    assert local_paths.local_places(EvaluateConfig(data=str(tmp_path), model="s3://b/m")) == [
        Place(str(tmp_path), False)
    ]
    assert local_paths.local_places(PrepareConfig(input=["a.csv", "s3://b"], output="s3://b/o")) == [
        Place(os.path.abspath("a.csv"), False)
    ]
    assert local_paths.absolute(QuickstartConfig()).output == os.path.abspath("das-quickstart")


def test_another_disk_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_paths, "_LOOKS", 1)
    log, folder, out = tmp_path / "log.csv", tmp_path / "data", tmp_path / "new" / "out"
    log.write_text("a,b")
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "part").write_bytes(b"1")
    places = [
        Place(str(log), False),
        Place(f"{tmp_path}/*.csv", False),
        Place(str(folder), False),
        Place(str(out), True),
    ]
    with local_paths._witnesses(places) as witnesses:
        assert local_paths._unseen(witnesses) == []
        # A copy with the same content is as good; another file at the same place is not.
        log.write_text("a,c")
        (folder / "shards" / "part").unlink()
        next(tmp_path.glob(".das-visible-*")).unlink()
        assert set(local_paths._unseen(witnesses)) == {str(log), f"{tmp_path}/*.csv", str(folder), str(out)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "log.csv"]
