"""Bad input: whole files that cannot be read give one clear sentence, bad rows are kept aside with a reason."""

import gzip
import json
import zipfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from pydantic import ValidationError
from readers_kit import read_all, read_log

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError

GOOD_CSV = "user_id,item_id,rating,timestamp\n1,2,3,1500000000\n"


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path."""

    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def refused(sentence, *paths, **options):
    """Planning or reading fails with a sentence that names the file and holds all of ``sentence``'s parts."""
    with pytest.raises(DasError) as caught:
        read_log(*paths, **options)
    for part in [sentence] if isinstance(sentence, str) else sentence:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files that cannot be read at all


def test_missing_file_and_pattern_without_a_match(tmp_path):
    refused([f"{tmp_path}/no.csv: no such file or folder"], tmp_path / "no.csv")
    refused([f"{tmp_path}/*.csv: no file matches"], tmp_path / "*.csv")
    refused(["the folder is empty"], tmp_path)


def test_credentials_never_reach_a_message(tmp_path):
    assert "secret" not in refused("in the address", "memory://user:secret@nowhere/log.csv")


def test_empty_files_among_others_are_skipped_and_named(write, tmp_path):
    write("a.csv", "")
    write("b.csv", GOOD_CSV)
    write("c.csv.gz", gzip.compress(b""))
    write("d.csv", " \n\n")
    _, fragments, estimate = plan_log(LogOptions(input=[str(tmp_path)]))
    assert [fragment.uri for fragment in fragments] == [f"{tmp_path}/b.csv"]
    assert estimate.skipped == (
        (f"{tmp_path}/a.csv", "the file is empty"),
        (f"{tmp_path}/c.csv.gz", "the file holds no line"),
        (f"{tmp_path}/d.csv", "the file holds no line"),
    )
    assert estimate.files == 1


def test_only_empty_files(write, tmp_path):
    write("a.csv", "")
    write("b.parquet", "")
    refused(["a.csv", "b.parquet", "all input files are empty"], tmp_path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n\n"])
def test_header_only_is_no_rows(write, end):
    path = write("log.csv", GOOD_CSV.split("\n")[0] + end)
    schema, fragments, estimate = plan_log(LogOptions(input=[str(path)]))
    assert fragments == []
    assert (estimate.files, estimate.rows, estimate.bytes) == (0, 0, 0)
    assert estimate.skipped == ((str(path), "the file has column names but no rows"),)
    assert schema.columns["item_id"] == "item_id"


def test_parquet_without_rows_is_no_rows(tmp_path):
    pl.DataFrame({"user_id": [1], "item_id": [1]}).clear().write_parquet(tmp_path / "log.parquet")
    _, fragments, estimate = plan_log(LogOptions(input=[str(tmp_path)]))
    assert (fragments, estimate.rows) == ([], 0)
    assert estimate.skipped[0][1] == "the file has column names but no rows"


def test_missing_column_lists_what_is_there_and_the_map_to_write(write):
    path = write("log.csv", "who,item_id,stars\n1,2,3\n")
    refused([str(path), "no column for user_id", "who, item_id, stars", "--map user_id=COLUMN"], path)
    refused(["unknown column 'whom' (from --map user_id=whom)", "who, item_id, stars"], path, map={"user_id": "whom"})
    refused(["unknown column 'user'", "left side is one of user_id"], path, map={"user": "who"})
    refused(["user_id is required"], path, map={"user_id": ""})
    refused(["no column for split"], path, map={"user_id": "who"}, want_split=True)


def test_ambiguous_and_repeated_columns(write):
    path = write("log.csv", "user,uid,item\n1,2,3\n")
    refused(["several columns could be user_id", "--map user_id=user or --map user_id=uid"], path)
    assert read_log(path, map={"user_id": "uid"})[0].rows() == [(2, 3)]
    refused(["the column 'item' occurs twice"], write("twice.csv", "user,item,item\n1,2,3\n"))


def test_the_file_whose_columns_differ_is_named(write, tmp_path):
    write("a.csv", "user,item\n1,2\n")
    write("b.csv", "user,item,rating\n1,2,5\n")
    write("c.csv", "user,item\n1,2\n")
    message = refused(["b.csv: its columns", "(user, item, rating)", "--map rating="], tmp_path)
    assert "a.csv" not in message
    assert read_log(tmp_path, map={"rating": ""})[0].height == 3


def test_binary_garbage_named_csv(write):
    garbage = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    refused(["log.csv", "binary"], write("log.csv", b"\x80" + garbage))
    refused(["log.csv", "binary"], write("log.csv", b"\x80" + garbage.replace(b"\x00", b"\x01")))


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("rows", [1000, 400_000])
def test_truncated_compressed_text(write, packing, rows):
    numbers = np.random.default_rng(0).integers(0, 10**9, (rows, 2))
    text = "user,item\n" + "".join(f"{u},{i}\n" for u, i in numbers.tolist())
    content = gzip.compress(text.encode()) if packing == "gzip" else pa.compress(text.encode(), "zstd", asbytes=True)
    path = write("log.csv.packed", content)
    assert read_log(path)[0].height == rows
    refused([str(path), f"the {packing} stream is truncated or damaged"], write("log.csv.packed", content[:-500]))
    refused(["truncated or damaged"], write("log.csv.packed", content[:10] + b"garbage" * 20))


def test_truncated_damaged_and_false_parquet(tmp_path, write):
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": np.random.default_rng(0).integers(0, 2**60, 5000), "item_id": range(5000)})
    frame.write_parquet(path)
    whole = path.read_bytes()
    refused([str(path), "not a complete Parquet file"], write("log.parquet", whole[:-100]))
    refused(["not a complete Parquet file"], write("log.parquet", whole[:6]))
    refused([str(path), "damaged"], write("log.parquet", whole[:4] + b"\xff" * 100 + whole[104:]))
    refused([str(path), "not a Parquet file", "--format"], write("log.parquet", GOOD_CSV))
    refused(["not a Parquet file"], write("log.csv", GOOD_CSV), format="parquet")
    assert read_log(write("table.bin", whole))[0].equals(frame)
    pq.write_table(frame.to_arrow(), path, compression="none", use_dictionary=False, write_page_checksum=True)
    whole = path.read_bytes()
    refused([str(path), "damaged"], write("log.parquet", whole[:9000] + b"\xff" + whole[9001:]))


def test_encrypted_parquet(tmp_path, write):
    class Kms(pe.KmsClient):
        def __init__(self, _):
            super().__init__()

        def wrap_key(self, key, _):
            return key.hex()

        def unwrap_key(self, key, _):
            return bytes.fromhex(key)

    table = pa.table({"user_id": [1], "item_id": [2]})
    factory = pe.CryptoFactory(Kms)
    for plaintext_footer in (True, False):
        config = pe.EncryptionConfiguration(
            footer_key="k", column_keys={"k": ["user_id"]}, plaintext_footer=plaintext_footer
        )
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
        path = tmp_path / "log.parquet"
        with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
        refused([str(path), "encrypted"], path)


def test_parquet_columns_of_an_unfit_type(tmp_path):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [True], "item_id": [2]}).write_parquet(path)
    refused([str(path), "column 'user_id'", "bool", "--map user_id=COLUMN"], path)
    pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [True]}).write_parquet(path)
    refused(["column 'timestamp'", "bool"], path)


def test_parquet_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "log.parquet"
    # Bytes are taken for text where the first ones are; a column of text has no choice.
    late = pa.array([b"a"] * 1000 + [b"\xff"], pa.binary())
    for users in (late, pa.array([b"\xff"] * 1001, pa.binary()).view(pa.string())):
        pq.write_table(pa.table({"user_id": users, "item_id": range(1001)}), path)
        refused([str(path), "not valid UTF-8"], path)


@pytest.mark.parametrize("place", ["head", "far", "ragged", "quoted"])
def test_text_that_is_not_utf8(write, place):
    rows = [b"u1,i1"] * 20_000
    rows[{"head": 5}.get(place, 15_000)] = {"ragged": b"\xff,i,x", "quoted": b'"\xff,i'}.get(place, b"\xff,i")
    path = write("log.csv", b"user,item\n" + b"\n".join(rows))
    refused([str(path), "not valid UTF-8", "iconv"], path)
    path = write("log.jsonl", b"\n".join([b'{"user":"a","item":1}'] * 9000 + [b'{"user":"\xff","item":1}']))
    refused([str(path), "not valid UTF-8"], path)
    path = write("log.txt", b"\n".join([b"%d 1 2 3" % k + b" 4" * (k % 3) for k in range(18_000)] + [b"u \xff"]))
    refused([str(path), "not valid UTF-8"], path)


def test_what_is_not_a_log_at_all(write, tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.log", "w") as archive:
        archive.writestr("log.csv", GOOD_CSV)
    refused(["zip.log", "zip archive", "unpack"], tmp_path / "zip.log")
    refused(["bz2", "truncated"], write("log.csv.bz2", b"BZh91AY&SY"))
    refused(["UTF-16", "iconv"], write("log.csv", GOOD_CSV.encode("utf-16")))
    refused(["JSON array", "one object per line"], write("log.json", json.dumps([{"user": 1, "item": 2}])))
    refused(["none of the first lines is a JSON object"], write("log.json", json.dumps({"user": 1}, indent=1)))
    refused(["cannot detect the delimiter", "--delimiter"], write("prose.txt", "Lorem\nipsum\ndolor\n"))
    refused(["is not a typed .inter header", "--format csv"], write("log.inter", "user\titem\n1\t2\n"))
    refused(["fields between '::'", "4 column names"], write("movies.dat", "1::Toy Story::Animation\n"))
    refused(["the first line is too long"], write("one.csv", "x" * 5_000_000 + ",y\n1,2\n"))


def test_times_that_are_neither_numbers_nor_dates(write, tmp_path):
    refused(["column 'time' (soon", "--map timestamp="], write("a.csv", "user,item,time\n1,2,soon\n"))
    write("a.csv", "user,item,time\n1,2,1500000000\n")
    write("b.csv", "user,item,time\n1,2,1500000000000\n")
    refused(["b.csv: its timestamps look like milliseconds", "a.csv like seconds", "--time-unit"], tmp_path)
    assert read_log(tmp_path, time_unit="ms")[0].height == 2


def test_a_file_that_vanishes_after_planning(write):
    path = write("log.csv", GOOD_CSV)
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)]))
    path.unlink()
    with pytest.raises(DasError, match="the file no longer exists"):
        read_all(schema, fragments)


def test_unknown_options_are_refused():
    with pytest.raises(ValidationError, match="separator"):
        LogOptions(input=["x"], separator=",")
    with pytest.raises(ValidationError, match="input"):
        LogOptions(input=[])


# Rows that are bad


BAD_ROWS = {
    ",2,3,4": "user_id is missing",
    "1,,3,4": "item_id is missing",
    "x,2,3,4": "user_id is not an integer (--id-type string reads ids as text)",
    "9223372036854775808,2,3,4": "user_id is outside -2^63 to 2^63 - 1 (--id-type string reads ids as text)",
    "1,2,nan,4": "rating is not finite",
    "1,2,-inf,4": "rating is not finite",
    "1,2,,4": "rating is missing",
    "1,2,NA,4": "rating is missing (written as NULL, NA or the like)",
    "1,2,3,-4": "timestamp is before 1970",
    "1,2,3,4102444800": "timestamp is after the year 2100",
    "1,2,3,": "timestamp is missing",
    "1,2,3,noon": "timestamp is not a number (--time-unit names the unit)",
    "1,2,3": "line has 3 fields instead of 4",
    "1,2,3,4,5": "line has 5 fields instead of 4",
}


@pytest.mark.parametrize("line", BAD_ROWS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_bad_row_alone_goes_aside_with_its_place(write, line, newline):
    sound = ["7,8,3,1500000000"] * 10
    path = write("log.csv", newline.join([*GOOD_CSV.split("\n")[:1], *sound, line, *sound]) + newline)
    good, bad = read_log(path, id_type="int")
    assert good.rows() == [(7, 8, 3.0, 1_500_000_000_000)] * 20
    assert bad.select("reason", "source", "row").rows() == [(BAD_ROWS[line], str(path), 12)]
    if BAD_ROWS[line].startswith("line"):
        assert bad["line"].to_list() == [line]
    else:
        user, item, rating, time = line.split(",")
        assert [bad[name][0] or "" for name in ("user_id", "item_id", "timestamp")] == [user, item, time]
        assert (bad["rating"][0] or "").lower() in (rating.lower(), f"{rating}.0")


def test_a_late_string_in_a_column_of_integers_is_bad_and_can_be_had(write):
    path = write("log.csv", "user,item\n" + "123456,7\n" * 10_000 + "guest,7\n")
    good, bad = read_log(path)
    assert good.height == 10_000
    assert bad.select("row", "user_id", "reason").rows() == [
        (10_002, "guest", "user_id is not an integer (--id-type string reads ids as text)")
    ]
    assert read_log(path, id_type="string")[0]["user_id"][-1] == "guest"


def test_a_quote_that_is_never_closed_costs_its_line_only(write):
    path = write("log.csv", 'user,item,rating\nu1,i1,1\nu2,"i2,2\nu3,i3,3\nu4,"i4",4\nu5,i5\n')
    good, bad = read_log(path)
    assert good.rows() == [("u1", "i1", 1.0), ("u3", "i3", 3.0), ("u4", "i4", 4.0)]
    assert bad.sort("row").select("reason", "row", "line").rows() == [
        ("line has a quote that is not closed (--quote none reads quotes as plain characters)", 3, 'u2,"i2,2'),
        ("line has 2 fields instead of 3", 6, "u5,i5"),
    ]


def test_a_quote_closed_lines_later_is_seen(write):
    path = write("log.csv", 'user,item,rating\nu1,"i1,5\nu2,i2,4\nu3,"i3,5\nu4,i4,1\n')
    good, bad = read_log(path)
    assert good.rows() == [("u2", "i2", 4.0), ("u4", "i4", 1.0)]
    assert bad["row"].to_list() == [2, 4]
    # A field that does hold a line end is no id.
    path = write("log.csv", 'user,item,rating\nu1,"i\n1",5\nu2,i2,4\n')
    assert read_log(path)[1]["reason"].to_list() == ["item_id holds a line end"]


def test_very_long_ids(write):
    path = write("log.csv", f"user,item\n{'u' * 1024},1\n{'é' * 513},2\n")
    good, bad = read_log(path)
    assert good["item_id"].to_list() == [1]
    assert bad["reason"].to_list() == ["user_id is longer than 1,024 bytes"]


def test_a_log_whose_rows_are_all_bad(write):
    good, bad = read_log(write("log.csv", "user,item,rating\n1,2,nan\n3,4,inf\n"))
    assert (good.height, bad.height) == (0, 2)
    assert good.schema == {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32}


def test_broken_json_lines(write):
    lines = [
        '{"user": 1, "item": 2, "rating": 3}',
        '{"user": 1, "item": 2',
        "[1, 2]",
        '{"user": 1, "item": {"a": 1}, "rating": 3}',
        '{"user": true, "item": 2, "rating": 3}',
        '{"user": 1, "item": 2, "rating": 3}{"user": 1, "item": 2, "rating": 3}',
        "",
        '{"user": 1, "rating": 3}',
        '{"user": "a", "item": 2, "rating": 3}',
        '{"user": 4, "item": 2, "rating": NaN}',
        '{"user": 1e20, "item": 2, "rating": 3}',
        "[" * 100_000,
    ]
    path = write("log.jsonl", "\n".join(lines))
    good, bad = read_log(path, id_type="int")
    assert good.rows() == [(1, 2, 3.0)]
    wrong = "line has an array, object, boolean or invalid text in place of an id, number or time"
    fix = "(--id-type string reads ids as text)"
    assert sorted(bad.select("row", "reason").rows()) == [
        (2, "line is not one JSON object"),
        (3, "line is not one JSON object"),
        (4, wrong),
        (5, wrong),
        (6, "line is not one JSON object"),
        (8, "item_id is missing"),
        (9, f"user_id is not an integer {fix}"),
        (10, "rating is not finite"),
        (11, f"user_id is not an integer {fix}"),
        (12, "line is not one JSON object"),
    ]
    path = write("log.jsonl", '{"user": "a", "item": 2}\n{"user": "\\ud800", "item": 2}\n')
    assert read_log(path)[1]["reason"].to_list() == [wrong]


def test_bad_rows_of_parquet_keep_their_row_number_across_row_groups(tmp_path):
    path = tmp_path / "log.parquet"
    users = pl.Series([1, 2, None, 4, 2**63, 6], dtype=pl.UInt64)
    ratings = [1.0, float("nan"), 1.0, 1.0, 1.0, 1.0]
    pl.DataFrame({"user_id": users, "item_id": range(6), "rating": ratings}).write_parquet(path, row_group_size=2)
    good, bad = read_log(path)
    assert good["user_id"].to_list() == [1, 4, 6]
    assert bad.select("row", "user_id", "reason").rows() == [
        (2, "2", "rating is not finite"),
        (3, None, "user_id is missing"),
        (5, str(2**63), "user_id is outside -2^63 to 2^63 - 1 (--id-type string reads ids as text)"),
    ]


def test_movielens_lines_that_do_not_fit(write):
    good, bad = read_log(write("ratings.dat", "1::2::3::1500000000\n1::2::3\n5::6::x::1500000000\n"))
    assert good.rows() == [(1, 2, 3.0, 1_500_000_000_000)]
    assert sorted(bad.select("row", "reason", "line").rows()) == [
        (2, "line has 3 fields instead of 4", "1::2::3"),
        (3, "rating is not a number", None),
    ]
