"""distill --from: a result carries over to a dataset with more rows, users and items."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from prepare_kit import inline_prepare, write_logs

from distill_at_scale.config import DistillConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import contenders
from distill_at_scale.distillation.continuing import continued_rows, continued_sequences, earlier_items
from distill_at_scale.distillation.distillers.sketch import real_users
from distill_at_scale.distillation.farzi import drawn_rows
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DamagedFileError, DasError, SettingError
from distill_at_scale.pipelines.distill import distill, distiller_of
from distill_at_scale.pipelines.distilling.group_job import GroupJob, SingleWorker, run_distiller
from distill_at_scale.pipelines.training.worker_group import WorkerGroupSpec

sys.path.extend(str(Path(__file__).parents[1] / kit) for kit in ("data", "distillation"))
from distill_kit import LocalJob
from synthetic_kit import write_synthetic

ROWS: dict[str, Any] = {"steps": 12, "batch_size": 40, "validate_every": 4, "warm_up": 2}
SEQUENCES: dict[str, Any] = {
    "model": {"dim": 8, "length": 8},
    "teachers": 1,
    "consensus": 0,
    "teacher": {"epochs": 2, "learning_rate": 0.02},
    "steps": 3,
    "batch": 4,
    "window": 3,
    "horizon": 12,
    "pool": 2,
    "lesson_users": 12,
    "lesson_places": 40,
    "least_context": 2,
    "validate_every": 3,
    "validation_students": 1,
}


def rows_of(users: range, items: int) -> list[tuple[Any, ...]]:
    """Users who like one of three groups of items, in random order; later items belong to the groups, too."""
    rng, rows = np.random.default_rng(7), []
    for user in users:
        liked = [item for item in range(items) if rng.random() < (0.7 if item % 3 == user % 3 else 0.1)]
        rng.shuffle(liked)
        rows += [(user, 10 * item, 1.0, 1000 * (1_600_000_000 + place), None) for place, item in enumerate(liked)]
    return rows


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    """A dataset, and the same with more users and with six new items, whose ids come first."""
    folder = tmp_path_factory.mktemp("again")
    first = write_logs(folder / "first", rows_of(range(90), 24), 1)
    more = [(u, i - 1000 if i >= 240 else i, *others) for u, i, *others in rows_of(range(90, 130), 30)]
    second = write_logs(folder / "second", more, 1)
    old = inline_prepare(input=first, output=str(folder / "old"), shards=1)
    return old, inline_prepare(append=old.uri, input=second, output=str(folder / "new"))


def made(data: Dataset, output: Path, earlier: SyntheticDataset | None = None, **asked: Any) -> SyntheticDataset:
    """Distills without Ray."""
    config = DistillConfig(data=data.uri, output=str(output), from_=None if earlier is None else earlier.uri, **asked)
    distiller = distiller_of(config, earlier)
    distiller.earlier = earlier
    group = WorkerGroupSpec(workers=1, gpu=False, work=str(output / "_work"), checkpoint_every=100)
    job = GroupJob(group, SingleWorker(torch.device("cpu")), data, lambda share, what: None)
    run_distiller(distiller, job, config.method, str(output))
    return SyntheticDataset.open(str(output))


@pytest.fixture(scope="module")
def users(both: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataset:
    return made(both[0], tmp_path_factory.mktemp("users") / "made", users=6, set=ROWS)


def test_rows_carry_over(both: tuple[Dataset, Dataset], users: SyntheticDataset, tmp_path: Path) -> None:
    old, new = both
    of_item = earlier_items(users, new)
    known = of_item >= 0
    assert (new.n_items, old.n_items, int((~known).sum())) == (30, 24, 6)
    for item in range(new.n_items):
        expected = -1 if new.item_ids()[item] < 0 else old.item_ids().to_list().index(new.item_ids()[item])
        assert of_item[item] == expected
    real = real_users(distiller_of(DistillConfig(data="-", output="-")).config, LocalJob(new))
    start = continued_rows(users, new, real).numpy()
    np.testing.assert_array_equal(start[:, known], users.rows()[:, of_item[known]])
    # A new item is placed like the old ones of its group.
    likeness = np.corrcoef(start.T)
    group = np.where(known, new.item_ids().to_numpy() // 10 % 3, (new.item_ids().to_numpy() + 1000) // 10 % 3)
    for item in np.flatnonzero(~known):
        same = known & (group == group[item])
        assert likeness[item, same].mean() > likeness[item, known & ~same].mean() + 0.2

    again = made(new, tmp_path / "again", users, set={"steps": 2, "batch_size": 40})
    assert again.n_users == 6
    assert again.manifest.curve[0]["metric"] > 0.5 * max(point["metric"] for point in users.manifest.curve)
    assert "Started from an earlier result" in again.manifest.notes[0]
    again.check_parent(new)


def test_what_was_learned_goes_on_though_simpler_rows_were_better(
    both: tuple[Dataset, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sketch = contenders.initial_rows
    # The simpler rows are drawn users, and no lead over them is clear.
    monkeypatch.setattr(contenders, "initial_rows", lambda init, *asked: sketch("random", *asked))
    monkeypatch.setattr(contenders, "_CLEAR", 1e9)
    data = both[0]
    first = made(data, tmp_path / "first", users=6, set={**ROWS, "init": "random"})
    assert first.manifest.winner != "distilled"
    assert first.manifest.learned is not None
    learned, best = first.learned_rows(), max(first.manifest.curve, key=lambda point: point["metric"])
    assert best["step"] > 0
    assert not np.allclose(learned, first.rows())
    real = real_users(distiller_of(DistillConfig(data="-", output="-")).config, LocalJob(data))
    np.testing.assert_array_equal(continued_rows(first, data, real).numpy(), learned)
    second = made(data, tmp_path / "second", first, set={"steps": 4, "batch_size": 40})
    assert second.manifest.config["lam"] == best["lam"]
    # Where the first one stopped.
    assert "Started from an earlier result" in second.manifest.notes[0]
    assert second.manifest.curve[0]["metric"] == pytest.approx(best["metric"], rel=1e-3)
    monkeypatch.setattr(contenders, "initial_rows", sketch)
    # From rows that are worse than a sketch no run goes on.
    poor = made(data, tmp_path / "poor", users=6, set={**ROWS, "init": "random", "steps": 1})
    other = made(data, tmp_path / "other", poor, set={"steps": 1, "batch_size": 40})
    assert "Started from a new sketch, which is better" in other.manifest.notes[0]
    assert other.manifest.curve[0]["metric"] > poor.manifest.curve[0]["metric"]
    first.verify()
    (tmp_path / "first" / "learned.safetensors").write_bytes(b"another")
    with pytest.raises(DamagedFileError, match=r"learned\.safetensors"):
        first.verify()
    with pytest.raises(DamagedFileError, match=r"learned\.safetensors"):
        first.learned_rows()
    again = made(data, tmp_path / "first", users=6, set={**ROWS, "steps": 1})
    assert again.manifest.learned is None
    assert not (tmp_path / "first" / "learned.safetensors").exists()


def test_sequences_carry_over(both: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    old, new = both
    asked: dict[str, Any] = {"method": "farzi"}
    first = made(old, tmp_path / "first", sequences=8, length=4, set=SEQUENCES, **asked)
    of_item = earlier_items(first, new)
    known = of_item >= 0
    start = continued_sequences(first, new, drawn_rows(new, 1000, 0), torch.device("cpu"))
    np.testing.assert_array_equal(start.decoder[:, known], first.sequences().decoder[:, of_item[known]])
    assert start.decoder[:, ~known].abs().sum(dim=0).min() > 0
    again = made(new, tmp_path / "again", first, set={"steps": 2, "validate_every": 2}, **asked)
    assert (again.n_users, again.n_items) == (8, 30)
    assert again.manifest.cost["teachers_cpu_s"] == 0
    assert again.manifest.sequences is not None
    assert again.manifest.sequences.length == 4


def test_what_is_refused(both: tuple[Dataset, Dataset], users: SyntheticDataset, tmp_path: Path) -> None:
    new, asked = both[1], {"output": str(tmp_path / "out"), "from_": users.uri}

    def refused(message: str, error: type[DasError] = SettingError, **other: Any) -> None:
        with pytest.raises(error, match=message):
            distill(**{"data": new.uri, **asked, **other})

    refused("made by distill_cf, and --method is farzi; take --method distill_cf", method="farzi")
    refused("sketch does not start from an earlier result; leave --from out", method="sketch")
    described = {"method": "sketch", "family": "free", "config": {}, "curve": [], "settings": {}, "made_with": {}}
    sketch = write_synthetic(str(tmp_path / "sketch"), users.rows(), both[0], {**described, "n_rows": 6}).uri
    refused(r"made by sketch, from whose results no run starts; leave --from out\.", from_=sketch)
    refused("sketch does not start from an earlier result; leave --from out", from_=sketch, method="sketch")
    refused("has users=6, and users=7 was asked for", users=7)
    refused("has rows=free, and rows=unit was asked for", set={"rows": "unit"})
    refused("lie in one another", output=f"{users.uri}/below")
    refused("is not a synthetic dataset|does not exist", DasError, from_=str(tmp_path / "none"))
    other = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 2], "item_id": [1, 2, 3] * 2, "timestamp": [1_600_000_000] * 6})
    other.write_csv(tmp_path / "other.csv")
    apart = inline_prepare(input=str(tmp_path / "other.csv"), output=str(tmp_path / "apart"))
    refused("no item in common", DasError, data=apart.uri)
