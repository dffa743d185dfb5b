"""SyntheticDataset: written, opened elsewhere, drawn from; what is missing, altered or foreign is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distill_at_scale as das
from distill_at_scale import report
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.continuing import check_split
from distill_at_scale.distillation.discretise import as_log, discrete_users
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.models.synthetic_rows import FactoredRows

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset
from synthetic_kit import write_synthetic

N_ITEMS = 6
DESCRIBED: dict[str, Any] = {
    "method": "distill_cf",
    "family": "free",
    "config": {"users": 3},
    "curve": [{"step": 0.0, "metric": 0.1, "lam": 1.0}],
    "settings": {"infinite_ae": {"lam": 2.0}},
    "cost": {"cpu_s": 1.5},
    "made_with": {},
    "n_rows": 8,
}
ROWS = np.array([[0.9, 0.8, -0.5, 0.1, 0, 0], [0, 0, 2.0, 0.6, 0.5, 0.4], [-1, -1, -1, -1, -1, -1]], np.float32)


@pytest.fixture
def parent(tmp_path: Path) -> Dataset:
    rows = [(user, item, 1.0, item, 0) for user in range(4) for item in (user, user + 1)]
    return write_dataset(tmp_path / "parent", [rows], [4], N_ITEMS)


@pytest.fixture
def made(tmp_path: Path, parent: Dataset) -> SyntheticDataset:
    return write_synthetic(str(tmp_path / "made"), ROWS, parent, DESCRIBED)


def test_what_was_written_is_read_in_a_fresh_process(tmp_path: Path, made: SyntheticDataset, parent: Dataset) -> None:
    code = (
        "import sys; from distill_at_scale.distillation.synthetic import SyntheticDataset; "
        "d = SyntheticDataset.open(sys.argv[1]); "
        "print(d.rows().tolist(), d.n_users, d.manifest.method, 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, made.uri], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{ROWS.tolist()} 3 distill_cf False", done.stderr
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "data.safetensors",
        "items.parquet",
        "manifest.json",
    ]
    m = made.manifest
    assert (m.parent.fingerprint, m.parent.item_space, m.parent.n_users) == (parent.manifest.fingerprint, "x", 4)
    assert made.items().equals(parent.items())
    rows = made.for_models()
    assert (rows.n_users, rows.n_rows, rows.item_space) == (4, 8, "x")
    assert rows.setting("infinite_ae", "lam", None) == 2.0
    assert rows.setting("infinite_ae", "lam", 3.0) == 3.0
    assert is_synthetic(made.uri)
    assert not is_synthetic(parent.uri)
    assert not is_synthetic(str(tmp_path))


def test_factors_are_kept_as_factors(tmp_path: Path, parent: Dataset) -> None:
    factors = FactoredRows(ROWS[:, :2].copy(), np.arange(2 * N_ITEMS, dtype=np.float32).reshape(N_ITEMS, 2))
    made = write_synthetic(str(tmp_path / "factors"), factors, parent, DESCRIBED)
    found = SyntheticDataset.open(made.uri)
    assert (found.n_users, found.n_items, found.manifest.rank) == (3, N_ITEMS, 2)
    read = found.for_models().factors
    assert read is not None
    np.testing.assert_array_equal(read.z, factors.z)
    np.testing.assert_array_equal(read.v, factors.v)
    np.testing.assert_array_equal(found.rows(), factors.z @ factors.v.T)
    assert len(found.draw()) == 3
    # What the manifest says of the shape is compared with the file.
    wrong = SyntheticDataset(made.uri, found.manifest.model_copy(update={"rank": 3}))
    with pytest.raises(DamagedFileError, match=r"factors of shapes \(3, 2\) and \(6, 2\).*\(3, 3\) and \(6, 3\)"):
        wrong.rows()


@pytest.mark.parametrize("name", ["data.safetensors", "items.parquet"])
def test_altered_and_missing_files_are_refused(tmp_path: Path, made: SyntheticDataset, name: str) -> None:
    made.verify()
    file = tmp_path / "made" / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DasError, match=f"{name} differs from its checksum; distill again"):
        made.verify()
    file.unlink()
    with pytest.raises(DasError, match=f"{name} is missing; distill again"):
        made.verify()


def test_what_is_no_synthetic_dataset_is_refused(tmp_path: Path, made: SyntheticDataset, parent: Dataset) -> None:
    with pytest.raises(DasError, match=r"not a synthetic dataset: it has no manifest\.json; das distill makes one"):
        SyntheticDataset.open(str(tmp_path / "nothing"))
    (tmp_path / "begun" / "_work").mkdir(parents=True)
    with pytest.raises(DasError, match="run the same das distill again"):
        SyntheticDataset.open(str(tmp_path / "begun"))
    with pytest.raises(DasError, match="holds a dataset, not synthetic users or sequences; distill it"):
        SyntheticDataset.open(parent.uri)
    manifest = tmp_path / "made" / "manifest.json"
    content = json.loads(manifest.read_text())
    recorded.write_json(str(manifest), {**content, "data": {**content["data"], "path": "../secret"}})
    with pytest.raises(DasError, match="leads out of the dataset"):
        SyntheticDataset.open(made.uri)
    manifest.write_text(json.dumps({**content, "n_users": 5}))
    with pytest.raises(DamagedFileError, match=r"manifest\.json differs from its own checksum; distill again"):
        SyntheticDataset.open(made.uri)
    recorded.write_json(str(manifest), {**content, "kind": "sequences"})
    with pytest.raises(DamagedFileError, match="contradicts itself: it says kind sequences, but no sequences are"):
        SyntheticDataset.open(made.uri)
    recorded.write_json(str(manifest), {**content, "n_users": 5})
    with pytest.raises(DasError, match=r"rows of shape \(3, 6\), but the manifest says \(5, 6\)"):
        SyntheticDataset.open(made.uri).rows()


def test_it_is_no_dataset_of_a_log(made: SyntheticDataset) -> None:
    with pytest.raises(
        DasError, match="holds synthetic users or sequences, not a log's; `das fit` and `das export` accept them"
    ):
        Dataset.open(made.uri)


def test_inspect_shows_it(made: SyntheticDataset, capsys: pytest.CaptureFixture[str]) -> None:
    found = das.inspect(made.uri, verify=True)
    assert isinstance(found, SyntheticDataset)
    report.show_inspected(found)
    shown = capsys.readouterr().out
    assert made.manifest.method in shown
    assert made.manifest.parent.fingerprint in shown
    assert json.loads(json.dumps(found.summary()))["n_users"] == made.n_users


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user_id,item_id\n1,2\n")
    for opened in (Dataset.open, das.inspect):
        with pytest.raises(DasError, match=r"log\.csv is a file, not a dataset; `das prepare` makes one from a log\.$"):
            opened(str(file))


def test_a_result_of_another_split_is_no_start(tmp_path: Path, made: SyntheticDataset, parent: Dataset) -> None:
    rows = [[(0, 0, 1.0, 0, 0), (0, 1, 1.0, 1, 0)]]
    same = write_dataset(tmp_path / "more", rows, [1], N_ITEMS, split_rule=parent.manifest.split_rule)
    other = write_dataset(tmp_path / "other", rows, [1], N_ITEMS, split_rule={"name": "random_rows", "seed": 1})
    for fine in (parent, same):
        check_split(made, fine)
    with pytest.raises(DasError, match=r"made was distilled from another split \(.*\) than that of .*\(random_rows\)"):
        check_split(made, other)
    # Where the dataset has gone nobody can tell.
    (Path(parent.uri) / "manifest.json").unlink()
    check_split(made, other)


def test_another_numbering_is_refused(tmp_path: Path, made: SyntheticDataset, parent: Dataset) -> None:
    made.check_parent(parent)
    other = write_dataset(tmp_path / "other", [[(0, 0, 1.0, 0, 0)]], [1], N_ITEMS, item_space="y")
    with pytest.raises(DasError, match="was distilled from another item numbering"):
        made.check_parent(other)


def test_plain_users_have_the_largest_items_and_the_parents_mean_count(made: SyntheticDataset) -> None:
    # Sums of the numbers in [0, 1]: 1.8, 2.5 and 0, of mean 1.43; the parent's users have 2 items.
    users = made.draw("top_k")
    assert [users.items[a:b].tolist() for a, b in zip(users.offsets, users.offsets[1:])] == [[0, 1, 3], [2, 3, 4], [0]]
    log = as_log(users, made.items())
    assert log.columns == ["user_id", "item_id"]
    assert log["item_id"].to_list() == [0, 10, 30, 20, 30, 40, 0]
    assert log["user_id"].to_list() == [0, 0, 0, 1, 1, 1, 2]


def test_sampled_items_come_in_proportion() -> None:
    rows = np.tile(np.array([0.6, 0.3, 0.1, 0.0], np.float32), (4000, 1))
    users = discrete_users(rows, 1.0, "sample", seed=1)
    assert (users.counts == 1).all()
    np.testing.assert_allclose(users.item_counts() / 4000, rows[0], atol=0.03)
    again = discrete_users(rows, 1.0, "sample", seed=1)
    np.testing.assert_array_equal(users.items, again.items)
    assert (discrete_users(rows, 1.0, "sample", seed=2).items != users.items).any()


def test_an_old_manifest_goes_first(tmp_path: Path, parent: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it replaces a dataset, a writer leaves none, and no half of each."""
    uri = str(tmp_path / "made")
    write_synthetic(uri, ROWS, parent, DESCRIBED)

    def full(*_: Any) -> None:
        raise DasError("the disk is full.")

    monkeypatch.setattr(synthetic.storage, "write_bytes", full)
    with pytest.raises(DasError, match="full"):
        write_synthetic(uri, ROWS, parent, DESCRIBED)
    with pytest.raises(DasError, match="is not a synthetic dataset"):
        SyntheticDataset.open(uri)


@pytest.mark.parametrize("how", ["top_k", "sample"])
def test_rows_of_zeros_and_ones_are_plain_users_already(how: Any) -> None:
    rows = (np.random.default_rng(0).random((5, 9)) < 0.4).astype(np.float32)
    rows[3] = 0
    users = discrete_users(rows, 2.0, how, seed=1)
    np.testing.assert_array_equal(users.to_csr().toarray(), rows)
    assert len(users) == 5


def test_a_comparison_refuses_it_and_says_what_measures_it(made: SyntheticDataset, parent: Dataset) -> None:
    from distill_at_scale.pipelines.compare import compare

    message = rf"made is distilled, .*samples only; .*das fit --data {made.uri} and das evaluate --data {parent.uri}"
    with pytest.raises(DasError, match=message):
        compare(data=parent.uri, samples=[made.uri], models="popularity,ease", output=f"{parent.uri}-out")


def test_a_report_calls_it_by_its_method(made: SyntheticDataset, tmp_path: Path) -> None:
    from distill_at_scale.pipelines.sweeps.judgement import judge

    found = judge(made.uri, None, str(tmp_path / "page.html"))
    assert (found.method, found.rows) == ("distill_cf", 3)
    assert not any(one.measured for one in found.answers), "nobody has measured anything yet"
    told = {one.question: one.told for one in found.answers}
    for question in ("quality", "transfer", "noise", "order of models"):
        assert "sweep with --methods distill_cf measures it" in told[question]
        assert f"das fit --data {made.uri} and das evaluate" in told[question]

    def privacy() -> str:
        return next(
            one.told for one in judge(made.uri, None, str(tmp_path / "page.html")).answers if one.question == "privacy"
        )

    assert "is not known" in privacy()
    for copied, told in ((0.0, "None of its 3 rows equals"), (2 / 3, "2 of its 3 rows equal a real user's")):
        with_copies = made.manifest.model_copy(update={"copied": copied})
        recorded.write_json(f"{made.uri}/{synthetic.NAME}", with_copies.model_dump(mode="json"))
        assert privacy().startswith(told)
    with pytest.raises(DasError, match=r"is not a comparison: it has no .*das compare makes one"):
        judge(made.uri, str(tmp_path), str(tmp_path / "page.html"))
    for text in ("{}", "[]", "null", '{"uri"'):
        (tmp_path / "comparison.json").write_text(text)
        with pytest.raises(DamagedFileError, match=r"comparison\.json"):
            judge(made.uri, str(tmp_path), str(tmp_path / "page.html"))
