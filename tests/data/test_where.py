"""Rows chosen by their columns and weighed by them: --where, --event, --weight, whatever the format and the cut."""

import gzip
import json
import random
from collections import Counter

import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from readers_kit import read_log

from distill_at_scale.cli import options as cli_options
from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.config import PrepareConfig
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.data.readers.selection import none_left
from distill_at_scale.errors import SettingError
from distill_at_scale.settings import load

KINDS = ("view", "cart", "purchase")
FORMATS = ("csv", "tsv", "csv.gz", "jsonl", "parquet", "arrow")


def rows_of(seed=0, n=600):
    rng = random.Random(seed)
    return [
        {
            "user_id": rng.randrange(1, 30),
            "item_id": f"i{rng.randrange(40)}",
            "timestamp": 1_600_000_000 + k,
            "event": rng.choice(KINDS),
            "country": rng.choice(["DE", "NO", None, "a b"]),
            "level": rng.randrange(4),
            "price": rng.choice([1.0, 2.5, 3.0]),
            "app": rng.random() < 0.5,
        }
        for k in range(n)
    ]


def write(folder, rows, suffix):
    path = folder / f"log.{suffix}"
    if suffix == "parquet":
        table = pa.Table.from_pylist(rows)
        # As pandas' categories are written.
        kinds = table["event"].dictionary_encode()
        pq.write_table(table.set_column(3, "event", kinds), path, row_group_size=100)
    elif suffix == "arrow":
        feather.write_feather(pa.Table.from_pylist(rows), path, chunksize=100)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if suffix == "tsv" else ","
        lines = [mark.join("" if value is None else str(value) for value in row.values()) for row in rows]
        text = "\n".join([mark.join(rows[0]), *lines]) + "\n"
        path.write_bytes(gzip.compress(text.encode())) if suffix.endswith("gz") else path.write_text(text)
    return path


def ids(good):
    return list(zip(good["user_id"], good["item_id"], good["timestamp"]))


def wanted(rows, holds):
    return [(row["user_id"], row["item_id"], row["timestamp"] * 1000) for row in rows if holds(row)]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({"event": "purchase"}, lambda row: row["event"] == "purchase"),
        (
            {"event": ["view", "purchase"], "country": "DE"},
            lambda row: row["event"] != "cart" and row["country"] == "DE",
        ),
        ({"level": 3}, lambda row: row["level"] == 3),
        ({"price": "1,2.5"}, lambda row: row["price"] < 3),
        ({"app": True}, lambda row: row["app"]),
        ({"app": "False"}, lambda row: not row["app"]),
        ({"country": ""}, lambda row: row["country"] is None),
        ({"country": "a b"}, lambda row: row["country"] == "a b"),
        ({"user_id": "7"}, lambda row: row["user_id"] == 7),
        ({"timestamp": 1_600_000_005}, lambda row: row["timestamp"] == 1_600_000_005),
    ],
)
def test_rows_by_the_text_of_columns(tmp_path, suffix, where, holds):
    rows = rows_of()
    good, bad = read_log(write(tmp_path, rows, suffix), where=where)
    assert ids(good) == wanted(rows, holds)
    assert bad.height == 0
    assert good["user_id"].dtype == pl.Int64


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_are_weighed_by_their_kind(tmp_path, suffix):
    rows = rows_of()
    good, bad = read_log(write(tmp_path, rows, suffix), event=["view:0.5", "purchase:2"], where={"level": [1, 2]})
    assert bad.height == 0
    assert ids(good) == wanted(rows, lambda row: row["event"] != "cart" and row["level"] in (1, 2))
    weights = {"view": 0.5, "purchase": 2.0}
    chosen = [row for row in rows if row["event"] in weights and row["level"] in (1, 2)]
    assert good["rating"].to_list() == [weights[row["event"]] for row in chosen]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_is_the_weight(tmp_path, suffix):
    rows = [{**row, "rating": 9} for row in rows_of()]
    good, bad = read_log(write(tmp_path, rows, suffix), weight="price")
    assert bad.height == 0
    assert good["rating"].to_list() == [row["price"] for row in rows]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("fragment_bytes", [1 << 20, 4000, 1000])
def test_the_same_counts_whatever_the_cut(tmp_path, suffix, fragment_bytes):
    rows = rows_of(1)
    # In some blocks of JSON and CSV columns are read as text, since a value fits no number.
    odd = {**rows[400], "level": "many", "app": None, "price": "x"}
    rows = [*rows[:400], odd, *rows[400:]] if suffix != "parquet" else rows
    options = LogOptions(
        input=[str(write(tmp_path, rows, suffix))], where={"level": "1,2", "app": "true", "price": "1"}, event=["view"]
    )
    schema, fragments, _ = plan_log(options, fragment_bytes=fragment_bytes)
    batches = [batch for fragment in fragments for batch in read_fragment(fragment, schema)]
    left_out = sum((Counter(batch.left_out) for batch in batches), Counter())
    good = pl.concat([batch.good for batch in batches])
    at_where = [row for row in rows if row["level"] in (1, 2) and row["app"] and row["price"] == 1]
    views = [row for row in at_where if row["event"] == "view"]
    assert (good.height, left_out) == (
        len(views),
        {"where": len(rows) - len(at_where), "event": len(at_where) - len(views)},
    )
    assert {value for batch in batches for _, value in batch.seen} == {"1", "2", "true", "view"}
    counted = Counter()
    for notice in (notice for batch in batches for notice in batch.noticed):
        counted[notice.what] += notice.count
    assert sum(counted.values()) == len(rows) - len(views)
    assert "not level=1,2 (--where), so left out" in counted


def test_rows_that_are_left_out_are_not_bad_and_keep_their_numbers(tmp_path):
    lines = ["user_id,item_id,event", "1,a,view", ",b,view", "2,c,buy", ",d,buy", "x,e,buy,4", "3,f,buy"]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    good, bad = read_log(tmp_path / "log.csv", where={"event": "buy"})
    assert good.rows() == [(2, "c"), (3, "f")]
    assert bad["row"].to_list() == [5, 6]
    pl.DataFrame({"user_id": [1, None, 2, None], "item_id": [1, 2, 3, 4], "event": list("vvbb")}).write_parquet(
        tmp_path / "log.parquet"
    )
    good, bad = read_log(tmp_path / "log.parquet", where={"event": "b"})
    assert (good.rows(), bad["row"].to_list()) == ([(2, 3)], [4])


def test_columns_in_structs_lists_and_folders(tmp_path):
    items = pa.array(
        [[{"item_id": 1, "kind": "a"}, {"item_id": 2, "kind": "b"}], [], [{"item_id": 3, "kind": "a"}]],
    )
    table = pa.table({"user_id": [7, 8, 9], "items": items, "meta": [{"site": s} for s in ("x", "y", "y")]})
    for site in ("de", "fr"):
        (tmp_path / f"site={site}").mkdir()
        pq.write_table(table, tmp_path / f"site={site}" / "log.parquet")
    asked = {"map": {"item_id": "items.item_id"}}
    good, bad = read_log(tmp_path, **asked, where={"items.kind": "a", "site": "fr"})
    assert (good.rows(), bad["row"].to_list()) == ([(7, 1), (9, 3)], [2])
    # The user without items is in x: nobody asked for that row.
    good, bad = read_log(tmp_path / "site=de", **asked, where={"meta.site": "x"})
    assert (good.rows(), bad.height) == ([(7, 1), (7, 2)], 0)
    good, bad = read_log(tmp_path / "site=de", **asked, event=["a:3"], event_column="items.kind")
    assert good.rows() == [(7, 1, 3.0), (9, 3, 3.0)]
    with pytest.raises(SettingError, match=r"column 'items\.kind' holds lists"):
        read_log(tmp_path / "site=de", map={"item_id": "user_id", "user_id": "meta.site"}, where={"items.kind": "a"})


def test_objects_without_the_column(tmp_path):
    lines = [{"user_id": 1, "item_id": 2}] * 3 + [{"user_id": 2, "item_id": 3, "kind": ["buy"]}]
    lines += [{"user_id": k, "item_id": k, "kind": kind} for k, kind in enumerate(("buy", True, 4, None, "view"))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    good, bad = read_log(tmp_path / "log.jsonl", where={"kind": ["buy", "true", "4"]})
    assert (good.rows(), bad.height) == ([(0, 0), (1, 1), (2, 2)], 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"where": {"evnt": "view"}}, "--where evnt=view: .* has no column 'evnt'; it has the columns .* mean 'event'"),
        ({"weight": "cost"}, "--weight cost: .* has no column 'cost'; it has the columns user_id, item_id"),
        ({"event": ["view"], "event_column": "kind"}, "--event-column kind: .* has no column 'kind'"),
    ],
)
def test_a_column_that_is_not_there(tmp_path, given, said):
    for suffix in ("csv", "parquet", "jsonl"):
        path = write(tmp_path, rows_of(n=20), suffix)
        with pytest.raises(SettingError, match=said):
            read_log(path, **given)


def test_which_column_holds_the_kind_of_event(tmp_path):
    (tmp_path / "a.csv").write_text("user_id,item_id,Event_Type\n1,2,view\n")
    assert read_log(tmp_path / "a.csv", event=["view:3"])[0].rows() == [(1, 2, 3.0)]
    (tmp_path / "b.csv").write_text("user_id,item_id,event,action\n1,2,view,x\n")
    with pytest.raises(SettingError, match="--event-column event or --event-column action"):
        read_log(tmp_path / "b.csv", event=["view"])
    assert read_log(tmp_path / "b.csv", event=["x:3"], event_column="action")[0].rows() == [(1, 2, 3.0)]
    (tmp_path / "c.csv").write_text("user_id,item_id,what\n1,2,view\n")
    with pytest.raises(
        SettingError, match=r"--event view: .*c\.csv has no column with a usual name .* with --event-column"
    ):
        read_log(tmp_path / "c.csv", event=["view"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"event": ["view:x"]}, "'x' is not a number"),
        ({"event": ["view:nan"]}, "must be finite"),
        ({"event": "view,view:2"}, "'view' is given twice"),
        ({"event": ["view"], "weight": "a"}, "event and weight exclude each other"),
        ({"weight": "a", "map": {"rating": "b"}}, "weight and map rating=b exclude each other"),
        ({"event_column": "a"}, "event_column is given without event"),
    ],
)
def test_settings_that_say_two_things(given, said):
    with pytest.raises(SettingError, match=said):
        load(PrepareConfig, settings={"input": ["a"], "output": "b", **given})


def test_the_same_settings_from_the_shell_yaml_and_python(tmp_path):
    words = "--where event=view,purchase country=NO --where event=cart,level=1 --event view:0.1,ui"
    words = cli_options.spread(words.split(), VERBS["prepare"])
    given = {"input": ["a"], "output": "b", "where": [], "event": []}
    for option, value in zip(words[::2], words[1::2]):
        given[option.removeprefix("--")].append(value)
    shell = load(PrepareConfig, settings=cli_options.settings_of(VERBS["prepare"], given))
    assert shell.where == {"event": ["view", "purchase", "cart"], "country": ["NO"], "level": ["1"]}
    (tmp_path / "prepare.yaml").write_text(
        "input: [a]\noutput: b\nevent: {view: 0.1, ui: 1}\n"
        "where: {event: [view, purchase, cart], country: 'NO', level: 1, app: true}\n"
    )
    yaml = load(PrepareConfig, str(tmp_path / "prepare.yaml"))
    assert yaml.where == {**shell.where, "app": ["true"]}
    assert shell.kinds == yaml.kinds == {"view": 0.1, "ui": 1.0}


def test_blanks_and_capital_letters_around_values_are_noticed(tmp_path):
    path = tmp_path / "log.csv"
    kinds = ["buy", " buy", "Buy", "buy\u00a0", "view"]
    path.write_text("user_id,item_id,event\n" + "".join(f"{k},{k},{kind}\n" for k, kind in enumerate(kinds)))
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)], where={"event": [" buy "]}))
    (batch,) = read_fragment(fragments[0], schema)
    assert batch.good["user_id"].to_list() == [0, 1]
    said = [str(notice) for notice in batch.noticed]
    assert said[0].startswith("3 rows: not event=buy (--where), so left out")
    assert said[1].startswith("2 rows: not event=buy (--where) only because of capital letters or odd blanks, so left")
    assert said[2] == "1 row: column 'event' has blanks around the value, which --where does not compare (e.g. ' buy')"
    why = none_left(schema.conditions, batch.noticed, 0)
    assert "of these 2 are not event=buy (--where) only because of capital letters" in why
