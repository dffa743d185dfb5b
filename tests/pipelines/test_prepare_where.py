"""prepare with --where, --event, --weight: what the manifest says of rows not asked for, and of weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepare_kit import inline_prepare, read_back

from distill_at_scale.errors import DasError


def log(path: Path) -> str:
    """User u has item u + k at time k: a view, for every second k a purchase an hour later."""
    lines = ["user_id,item_id,timestamp,event,cost"]
    for user in range(20):
        for k in range(8):
            item, time = user + k, 1_600_000_000 + 10_000 * k
            lines.append(f"{user},{item},{time},view,{k}")
            if k % 2:
                lines.append(f"{user},{item},{time + 3600},purchase,{k}")
    lines.append("1,2,1600000000,cart,1")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def run(tmp_path: Path, **settings: Any) -> Any:
    return inline_prepare(input=[log(tmp_path / "log.csv")], output=str(tmp_path / "out"), **settings)


def ratings(data: Any) -> np.ndarray:
    return np.concatenate([data.table(k, ["rating"])["rating"].to_numpy() for k in range(len(data.manifest.shards))])


def test_rows_of_other_kinds_are_dropped_and_counted(tmp_path: Path) -> None:
    data = run(tmp_path, where={"event": ["purchase", "refund"]})
    m = data.manifest
    assert (m.n_rows, m.dropped["where"], m.source["rows"], m.quarantine.rows) == (80, 161, 241, 0)
    assert (m.has_ratings, m.rating_meaning) == (False, None)
    assert [str(notice) for notice in m.noticed] == [
        "1 value: --where asks for event=refund, which no row has",
        "161 rows: not event=purchase,refund (--where), so left out (e.g. 'view')",
    ]
    assert m.config["where"] == {"event": ["purchase", "refund"]}
    read_back(str(tmp_path / "out"))


@pytest.mark.parametrize("keep", ["last", "first", "all"])
def test_weights_of_events_are_ratings(tmp_path: Path, keep: Any) -> None:
    data = run(tmp_path, event=["view:0.25", "purchase:1"], duplicates=keep)
    m = data.manifest
    assert (m.dropped["event"], m.dropped["duplicates"]) == (1, 0 if keep == "all" else 80)
    assert (m.has_ratings, m.rating_meaning) == (True, "weight of event: view 0.25, purchase 1")
    # By time a purchase comes after its view.
    assert np.unique(ratings(data), return_counts=True)[1].tolist() == {"last": [80, 80], "first": [160]}.get(
        keep, [160, 80]
    )
    assert [str(notice) for notice in m.noticed] == [
        "1 row: not event=view,purchase (--event), so left out (e.g. 'cart')"
    ]


def test_a_column_of_weights_can_be_filtered_by(tmp_path: Path) -> None:
    data = run(tmp_path, weight="cost", min_rating=5)
    assert data.manifest.rating_meaning == "weight: column 'cost'"
    assert set(ratings(data).tolist()) == {5.0, 6.0, 7.0}


def test_an_unread_column_of_events_names_the_options(tmp_path: Path) -> None:
    (notice,) = run(tmp_path).manifest.noticed
    assert "keep some with --where event=view, or weigh them with --event view:0.1 purchase:1" in notice.what


def test_no_rows_are_left(tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"no rows are left .*: of 241 rows 241 are not event=buy \(--where\)"):
        run(tmp_path, where={"event": "buy"})
    with pytest.raises(DasError, match=r"of 241 rows 161 were left out by --where or --event, 0 were bad"):
        run(tmp_path, event=["purchase"], min_user=100)
