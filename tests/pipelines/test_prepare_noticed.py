"""What prepare notices reaches the manifest, the JSON and the screen; how the log was read is said there too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepare_kit import inline_prepare

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.preparing import job
from distill_at_scale.report.console import show_dataset

LOG = "user_id,item_id,rating,timestamp\n" + "".join(
    f"{u},{i},{(u + i) % 5 + 1},{1_600_000_000 + 10 * u + i}\n" for u in range(20) for i in range(5)
)


def test_noticed_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.csv").write_text("")
    (folder / "b.csv").write_text(LOG)
    data = inline_prepare(input=[str(folder)], output=str(tmp_path / "out"))
    expected = {"what": "skipped: the file is empty", "count": 1, "unit": "file", "example": str(folder / "a.csv")}
    assert data.summary()["noticed"] == [expected]
    assert data.summary()["source"]["read_as"] == [
        {"format": "csv", "files": 1, "delimiter": ",", "header": True, "quote": "record"}
    ]
    show_dataset(data)
    # The terminal may break lines anywhere.
    screen = " ".join(capsys.readouterr().out.split())
    assert "noticed 1 file skipped: the file is empty" in screen
    assert "csv, ',' between fields, the first line names the columns" in screen
    assert "user_id = user_id (int64)" in screen
    assert "timestamp = timestamp (seconds)" in screen


def test_the_range_of_times_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = LOG + "".join(f"{u},77,1,4000000000\n" for u in range(2))
    (tmp_path / "log.csv").write_text(late)
    data = inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"))
    source = data.manifest.source
    assert (source["first_time"], source["last_time"]) == ("2020-09-13T12:26:40Z", "2096-10-02T07:06:40Z")
    (notice,) = data.manifest.noticed
    assert str(notice).startswith("2 rows: timestamp lies in 2035 or later")
    show_dataset(data)
    screen = " ".join(capsys.readouterr().out.split())
    assert "times 2020-09-13 12:26:40 to 2096-10-02 07:06:40 UTC (in the future)" in screen
    # Positions in a line are no times.
    (tmp_path / "log.txt").write_text("".join(f"{u} {u} {u + 1} {u + 2}" + " 9" * (u % 3) + "\n" for u in range(20)))
    data = inline_prepare(input=[str(tmp_path / "log.txt")], output=str(tmp_path / "lines"), duplicates="all")
    assert "first_time" not in data.manifest.source


def test_a_format_of_times_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{u},{i},{20220401 + i}\n" for u in range(20) for i in range(5))
    (tmp_path / "log.csv").write_text("user_id,item_id,date\n" + rows)
    data = inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"))
    assert data.manifest.source["first_time"] == "2022-04-01T00:00:00Z"
    show_dataset(data)
    assert "timestamp = date (format %Y%m%d)" in " ".join(capsys.readouterr().out.split())


def test_manifests_without_the_block_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"))
    manifest = tmp_path / "out" / "manifest.json"
    content = json.loads(manifest.read_text())
    for name in ("noticed", "checksum"):
        del content[name]
    for name in ("read_as", "columns", "time_unit"):
        del content["source"][name]
    manifest.write_text(json.dumps({**content, "version": 1}))
    data = Dataset.open(str(tmp_path / "out"))
    assert data.manifest.noticed == []
    show_dataset(data)
    assert "noticed" not in capsys.readouterr().out


def pairs(n_users: int = 12, n_items: int = 9) -> list[str]:
    """Lines of "user item" in the order of time; the largest item is not a user's last."""
    return [f"u{u} i{(2 * k + u) % n_items}" for k in range(n_items) for u in range(n_users)]


def last_items(data: Dataset) -> dict[str, str]:
    """user id → id of the item that is held out for test."""
    items = dict(data.items().select("item", "item_id").iter_rows())
    users = {row["user"]: row["user_id"] for k in range(len(data.shards)) for row in data.users(k).to_dicts()}
    test = data.interactions("test")
    return {users[u]: items[i] for u, i in zip(test.users.tolist(), test.items.tolist())}


def test_the_order_of_lines_stands_for_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same dataset, however the lines lie in files and fragments."""
    lines = pairs()
    fingerprints = set()
    for files, fragment_bytes in ((1, 1 << 20), (1, 64), (3, 1 << 20), (4, 50)):
        folder = tmp_path / f"{files}-{fragment_bytes}"
        folder.mkdir()
        size = len(lines) // files
        for k in range(files):
            (folder / f"part-{k}.txt").write_text("\n".join(lines[k * size : (k + 1) * size]) + "\n")

        def plan(
            options: LogOptions, want_split: bool, fragment_bytes: int = fragment_bytes, remedy: str | None = None
        ) -> Any:
            return plan_log(options, want_split, fragment_bytes, remedy)

        monkeypatch.setattr(job, "plan_log", plan)
        asked: dict[str, Any] = {"input": [str(folder)], "columns": ["user_id", "item_id"], "delimiter": " "}
        with pytest.raises(DasError, match="--order file if its lines are in the order of time"):
            inline_prepare(**asked, output=str(folder / "../out"))
        data = inline_prepare(**asked, output=f"{folder}-out", order="file", shards=4)
        assert last_items(data) == {line.split()[0]: line.split()[1] for line in lines}
        times = np.concatenate([data.table(k, ["timestamp"])["timestamp"].to_numpy() for k in range(4)])
        assert sorted(times.tolist()) == list(range(len(lines)))
        assert data.manifest.source["time_unit"] == "position"
        fingerprints.add(data.manifest.fingerprint)
    assert len(fingerprints) == 1


def test_the_order_of_lines_beside_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    with pytest.raises(DasError, match="the log has times, in the column 'timestamp'"):
        inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"), order="file")
    asked: dict[str, Any] = {"order": "file", "map": {"timestamp": ""}}
    data = inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"), **asked)
    assert data.manifest.has_timestamps


@pytest.mark.parametrize("keep", ["last", "first", "all"])
def test_a_train_and_a_test_row_of_one_item_are_not_made_one_silently(tmp_path: Path, keep: str) -> None:
    """Users 0 and 1 have item 0 in train and in test, user 2 twice in train."""
    rows = [(u, i, 100 * i, "test" if i == 4 else "train") for u in range(4) for i in range(5)]
    rows += [(0, 0, 900, "test"), (1, 0, 900, "test"), (2, 0, 900, "train")]
    lines = [f"{u},{i},{1_600_000_000 + t},{split}" for u, i, t, split in rows]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,split", *lines]) + "\n")
    data = inline_prepare(
        input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"), split="column", duplicates=keep
    )
    if keep == "all":
        assert (data.manifest.noticed, data.manifest.dropped["duplicates"]) == ([], 0)
        return
    (notice,) = data.manifest.noticed
    assert data.manifest.dropped["duplicates"] == 3
    assert str(notice) == (
        f"2 rows: dropped for the {keep} row of the same user and item, which is in another split; --duplicates all "
        "keeps both (e.g. user 0, item 0)"
    )
    assert data.manifest.splits == {
        "train": 14 if keep == "last" else 16,
        "validation": 0,
        "test": 6 - 2 * (keep == "first"),
    }


def test_ids_are_looked_at_over_the_whole_log(tmp_path: Path) -> None:
    """Users in different buckets and items of different files; rows are counted before duplicates go."""
    lines = LOG.replace("\n", "\nu")[:-1].splitlines()
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "a.csv").write_text("\n".join(lines) + "\n" + "anonymous,3,1,1600000000\n" * 25)
    (folder / "b.csv").write_text(lines[0] + "\n" + "".join(f"U7,{item},1,1600000000\n" for item in ("x1", "X1", "x2")))
    data = inline_prepare(input=[str(folder)], output=str(tmp_path / "out"), shards=4)
    said = "\n".join(map(str, data.manifest.noticed))
    assert "25 rows: user_id is 'anonymous' (19.5% of all rows): it looks like a placeholder" in said
    assert "2 values: user_id differs from another only in case or Unicode form" in said
    assert "(e.g. 'U7' and 'u7')" in said
    assert "2 values: item_id differs from another only in case or Unicode form" in said


def test_columns_that_look_like_the_needed_ones_are_named(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,InvoiceDate,my_stars\n1,2,2011-01-02 10:00,5\n")
    asked: dict[str, Any] = {"input": [str(tmp_path / "log.csv")], "output": str(tmp_path / "out")}
    with pytest.raises(DasError, match=r"has no timestamp column; .* \(--map timestamp=InvoiceDate reads it\)"):
        inline_prepare(**asked)
    with pytest.raises(DasError, match=r"has no rating column; .* \(--map rating=my_stars reads it\)"):
        inline_prepare(**asked, split="20_percent_hist", min_rating=3)
