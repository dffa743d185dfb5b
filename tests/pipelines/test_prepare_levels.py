"""prepare with two levels of the exchange, or with fragments that are read together: the same bytes as with one level,
in any order of deaths and damages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_kit import every_death
from prepare_kit import checksums, inline_prepare, paths_below, random_rows, read_together, two_levels, write_logs

from distill_at_scale.data import manifest as manifests
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import dealt, exchange, fragments
from distill_at_scale.data.preparation.dealt import DealtRows
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.pipelines.runtime import output_folder

LIMITS = [
    (exchange, "ONE_LEVEL"),
    (exchange, "TOGETHER"),
    (exchange, "_RANGES"),
    (exchange, "_GROUPS"),
    (dealt, "HELD_ROWS"),
    (dealt, "HELD_BYTES"),
]
SETTINGS: dict[str, Any] = {"shards": 4, "min_user": 4, "min_item": 3}


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_logs(tmp_path_factory.mktemp("exchange"), random_rows(5, 1500, 120, 80), 5, ".parquet")


@pytest.fixture(scope="module")
def one_level(logs: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return checksums(inline_prepare(input=logs, output=str(tmp_path_factory.mktemp("one") / "out"), **SETTINGS))


@pytest.fixture
def levels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, name in LIMITS:
            patch.setattr(module, name, getattr(module, name))
        two_levels()
        yield


@pytest.mark.parametrize(
    ("ranges", "groups", "held_rows"), [(2, 3, 0), (2, 3, 1 << 20), (3, 5, 0), (3, 5, 300), (4, 1, 0), (1, 3, 1 << 20)]
)
def test_levels_do_not_show(
    tmp_path: Path, logs: list[str], one_level: list[str], levels: None, ranges: int, groups: int, held_rows: int
) -> None:
    two_levels(ranges, groups, held_rows)
    left: dict[str, set[str]] = {}

    def stop(output: str, *_: Any) -> None:
        left.update({name: paths_below(Path(output, "_work", name)) for name in ("fragments", "merged")})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_folder, "remove_strays", stop)
        found = inline_prepare(input=logs, output=str(tmp_path / "out"), **SETTINGS)
    assert checksums(found) == one_level
    # What was read is gone by then, but for the records.
    assert left["merged"] == {f"part-{k:05d}.json" for k in range(groups)}
    assert not any(path.endswith(".chunks") for path in left["fragments"])


@pytest.mark.parametrize(("groups", "held_bytes", "sources"), [(1, 1 << 28, 1), (2, 1 << 28, 3), (2, 0, 3)])
def test_fragments_that_are_read_together_do_not_show(
    tmp_path: Path, logs: list[str], one_level: list[str], levels: None, groups: int, held_bytes: int, sources: int
) -> None:
    read_together(groups, held_bytes)
    left: set[str] = set()

    def stop(output: str, *_: Any) -> None:
        left.update(paths_below(Path(output, "_work", "fragments")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_folder, "remove_strays", stop)
        found = inline_prepare(input=logs, output=str(tmp_path / "out"), **SETTINGS)
    assert checksums(found) == one_level
    assert left == {f"part-{k:05d}.json" for k in range(sources)}


def test_positions_are_those_of_the_log(tmp_path: Path, logs: list[str], levels: None) -> None:
    """The order of lines stands for time, also of those in later fragments."""
    asked = {"input": logs, "order": "file", "map": {"timestamp": ""}, "shards": 3, "duplicates": "all"}
    two = inline_prepare(**asked, output=str(tmp_path / "two"))
    read_together()
    assert checksums(inline_prepare(**asked, output=str(tmp_path / "together"))) == checksums(two)
    exchange.ONE_LEVEL = 1 << 17
    assert checksums(inline_prepare(**asked, output=str(tmp_path / "one"))) == checksums(two)


def test_bad_rows_have_a_file_for_each_fragment(tmp_path: Path, logs: list[str], levels: None) -> None:
    """However fragments are read: an append has the files that preparing all at once has."""
    bad = [str(tmp_path / f"{k}.csv") for k in range(4)]
    for k, file in enumerate(bad):
        wrong = "3,4,much,1\n" * (k % 2)
        Path(file).write_text("user_id,item_id,rating,timestamp\n" + f"1,{k},5,{10**9 + k}\n" * 9 + wrong)
    asked = {"input": bad, "split": "20_percent_hist", "duplicates": "all", "max_bad_share": 0.1}
    read_together()
    one = inline_prepare(**asked, output=str(tmp_path / "together"))
    exchange.ONE_LEVEL = 1 << 17
    two = inline_prepare(**asked, output=str(tmp_path / "apart"))
    assert one.manifest == two.manifest
    assert one.manifest.quarantine.files == ["quarantine/part-00001.parquet", "quarantine/part-00003.parquet"]
    for file in one.manifest.quarantine.files:
        assert (tmp_path / "together" / file).read_bytes() == (tmp_path / "apart" / file).read_bytes()
    read_together()
    with pytest.raises(DasError, match=r"the first: rating 'much', row 11 of .*1\.csv"):
        inline_prepare(**{**asked, "max_bad_share": 0.01}, output=str(tmp_path / "refused"))


def test_a_kill_at_every_file_of_fragments_that_are_read_together(tmp_path: Path, logs: list[str]) -> None:
    output = tmp_path / "out"
    settings = SETTINGS | {"shards": 2}
    asked = {"input": logs[:4], "output": str(output), **settings, "read_together": [2], "only": "_work/fragments/.*"}
    deaths = every_death("every_kill.py", asked)
    # Before and after: two sources of two fragments, each with a slab of two parts, item ids and a record.
    assert len(deaths) == 2 * 2 * 3
    undisturbed = inline_prepare(input=logs[:4], output=str(tmp_path / "undisturbed"), **settings)
    assert checksums(Dataset.open(str(output))) == checksums(undisturbed)


@pytest.mark.parametrize(("held_rows", "files"), [(0, 1), (1 << 20, 0)])
def test_a_kill_at_every_file_of_the_exchange(tmp_path: Path, logs: list[str], held_rows: int, files: int) -> None:
    output = tmp_path / "out"
    only = "_work/(merged/.*|buckets/.*json)"
    settings = SETTINGS | {"shards": 2}
    asked = {"input": logs[:3], "output": str(output), **settings, "two_levels": [2, 3, held_rows], "only": only}
    deaths = every_death("every_kill.py", asked)
    # Before and after: three groups of a fragment, two ranges and a record, and a record of two buckets.
    assert len(deaths) == 2 * (3 * (files + 3) + 2)
    undisturbed = inline_prepare(input=logs[:3], output=str(tmp_path / "undisturbed"), **settings)
    dataset = Dataset.open(str(output))
    dataset.verify()
    assert checksums(dataset) == checksums(undisturbed)
    assert not (output / "_work").exists()


@pytest.mark.parametrize(
    "damaged", ["merged/part-00001.json", "merged/range-00001/part-00001.chunks", "buckets/part-00003.arrow"]
)
def test_one_more_run_heals_damage(
    tmp_path: Path, logs: list[str], one_level: list[str], levels: None, damaged: str
) -> None:
    """Also damage of a bucket whose files are gone by then: the log is dealt again."""
    output = tmp_path / "out"
    asked = {"input": logs, "output": str(output), **SETTINGS}
    with pytest.MonkeyPatch.context() as patch:
        # The run ends as if it had been killed before, or after, the first bucket was sorted.
        after = DealtRows.read if damaged.startswith("merged") else output_folder.remove_strays
        owner = DealtRows if damaged.startswith("merged") else output_folder
        patch.setattr(owner, after.__name__, _killed)
        with pytest.raises(_Killed):
            inline_prepare(**asked)
    file = output / "_work" / damaged
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = 0
    while not (output / "manifest.json").exists():
        try:
            inline_prepare(**asked)
        except DamagedFileError as error:
            said += "run the same command again to make it again" in str(error)
            if said > 2:
                raise
    assert checksums(Dataset.open(str(output))) == one_level


class _Killed(BaseException):
    pass


def _killed(*_: Any) -> None:
    raise _Killed


def test_another_task_that_has_sorted_a_bucket_is_no_damage(tmp_path: Path, levels: None) -> None:
    """A bucket's files are gone once it is sorted; a second task that comes late must not have all made again."""
    rows = DealtRows(str(tmp_path), fragments.FOLDER, Exchange(2, 2, 2), 2)
    record = tmp_path / "merged" / "part-00000.json"
    record.parent.mkdir()
    record.write_text(json.dumps({}))
    with pytest.raises(DamagedFileError):
        rows.read(0, lambda: True)
    assert record.exists()
    with pytest.raises(DamagedFileError):
        rows.read(0)
    assert not record.exists()


def test_overwriting_removes_the_file_of_shards(tmp_path: Path, logs: list[str]) -> None:
    output = tmp_path / "out"
    asked = {"input": logs, "output": str(output), "overwrite": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "MOST_INLINE", 2)
        many = inline_prepare(**asked, shards=4)
        assert many.manifest.version == 3
        many.verify()
        again = inline_prepare(**asked, shards=4)
        assert (again.manifest, checksums(again)) == (many.manifest, checksums(many))
    shutil.copytree(output, tmp_path / "copy")
    assert (tmp_path / "copy" / "shards.parquet").exists()
    few = inline_prepare(**asked, shards=2)
    few.verify()
    assert not (output / "shards.parquet").exists()
