"""Detects by their first bytes files that are not logs, and rejects them with a command that converts or fetches
them."""

from __future__ import annotations

import io
import re
import tarfile
from typing import Final, NoReturn

from distill_at_scale.errors import DasError

_PANDAS: Final = "python -c \"import pandas as pd; pd.{reader}('{name}'{more}).to_parquet('{stem}.parquet')\""
_UNPACK: Final = "unpack it with `{line}` and pass the file in it that holds the log"

# First bytes → (what the file is, how to convert it). {name}: the file's name, {stem}: without its extension.
_BY_MAGIC: Final[tuple[tuple[bytes, str, str], ...]] = (
    (
        b"Obj\x01",
        "an Avro file",
        "convert it with `python -c \"import polars as pl; pl.read_avro('{name}').write_parquet('{stem}.parquet')\"`",
    ),
    (
        b"FEA1",
        "a Feather file of version 1",
        'convert it with `python -c "import pyarrow.feather as f, pyarrow.parquet as p; '
        "p.write_table(f.read_table('{name}'), '{stem}.parquet')\"`",
    ),
    (
        b"SQLite format 3\x00",
        "an SQLite database",
        "export its table with `sqlite3 -header -csv {name} 'select * from TABLE' > {stem}.csv`",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file",
        f"convert it with `{_PANDAS.format(reader='read_hdf', name='{name}', more='', stem='{stem}')}`",
    ),
    (
        b"\x93NUMPY",
        "a NumPy array",
        "convert it with `python -c \"import numpy as np; np.savetxt('{stem}.csv', np.load('{name}'), '%s', ',')\"` "
        "and name its columns with --columns",
    ),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook (or another old Office file)",
        "save its sheet as CSV, or convert it with "
        "`python -c \"import pandas as pd; pd.read_excel('{name}').to_csv('{stem}.csv', index=False)\"`",
    ),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK.format(line="7z x {name}")),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK.format(line="unrar x {name}")),
    (b"\x1f\x9d", "compressed by Unix compress", "unpack it with `uncompress {name}`"),
    (
        b"\xff\x06\x00\x00sNaPpY",
        "compressed by snappy",
        "unpack it with `python -m snappy -d {name} {stem}` and compress it with gzip or zstd if need be",
    ),
    (b"SEQ\x06", "a Hadoop sequence file", "write it as Parquet, in Spark or Hive"),
    (
        b"RDX",
        "an R data file",
        "write the table as CSV in R: `write.csv(TABLE, '{stem}.csv', row.names=FALSE)`",
    ),
    (
        b"X\n\x00\x00\x00",
        "an R data file",
        "write the table as CSV in R: `write.csv(readRDS('{name}'), '{stem}.csv', row.names=FALSE)`",
    ),
    (
        b"<stata_dta>",
        "a Stata file",
        f"convert it with `{_PANDAS.format(reader='read_stata', name='{name}', more='', stem='{stem}')}`",
    ),
    (
        b"$FL2",
        "an SPSS file",
        f"convert it with `{_PANDAS.format(reader='read_spss', name='{name}', more='', stem='{stem}')}`",
    ),
    (b"LZIP", "compressed by lzip", "unpack it with `lzip -d {name}`"),
    (b"\x89LZO\x00", "compressed by lzop", "unpack it with `lzop -d {name}`"),
    (b"]\x00\x00", "compressed by LZMA (without xz)", "unpack it with `xz --format=lzma -dc {name} > {stem}`"),
    (b"MATLAB 5.0", "a MATLAB file", "convert it with scipy.io.loadmat and write a CSV file"),
    (b"MATLAB 7.3", "a MATLAB file (an HDF5 file inside)", "open it with h5py.File('{name}') and write a CSV file"),
    (b"%PDF", "a PDF document", "pass the log itself"),
    (
        b"\xff\xfe\x00\x00",
        "UTF-32 text",
        "convert it with `iconv -f UTF-32 -t UTF-8 {name} > utf8-{name}`",
    ),
    (
        b"\xff\xfe",
        "UTF-16 text",
        "convert it with `iconv -f UTF-16 -t UTF-8 {name} > utf8-{name}`",
    ),
    (
        b"\xfe\xff",
        "UTF-16 text",
        "convert it with `iconv -f UTF-16 -t UTF-8 {name} > utf8-{name}`",
    ),
)
# Ending of a name → (what a binary file of this name is, how to convert it); these formats have no first bytes.
_BY_NAME: Final[dict[str, tuple[str, str]]] = {
    "br": ("compressed by Brotli", "unpack it with `brotli -d {name}`"),
    "snappy": ("compressed by Snappy", "unpack it with `python -m snappy -d {name} {stem}`"),
    "tfrecord": ("a TFRecord file", "write it as Parquet, e.g. from tf.data.TFRecordDataset('{name}')"),
    "lance": ("a Lance file", "write its table as Parquet: `lance.dataset(FOLDER).to_table()` in Python"),
    "sas7bdat": (
        "a SAS file",
        f"convert it with `{_PANDAS.format(reader='read_sas', name='{name}', more='', stem='{stem}')}`",
    ),
    "npy": ("a NumPy array", "write it as CSV with np.savetxt"),
    "db": ("a database", "export its table as CSV"),
    "dta": (
        "a Stata file",
        f"convert it with `{_PANDAS.format(reader='read_stata', name='{name}', more='', stem='{stem}')}`",
    ),
    "bson": ("a dump of MongoDB", "convert it with `bsondump {name} > {stem}.jsonl`"),
    "msgpack": ("MessagePack", "write it as Parquet, CSV or JSON lines"),
    "pb": ("Protocol Buffers", "write it as Parquet, CSV or JSON lines"),
}
# The first array of a sparse matrix that SciPy saves.
_SPARSE: Final = ("indices.npy", "indptr.npy", "row.npy", "coords.npy", "offsets.npy")
_PICKLE: Final = re.compile(rb"\x80[\x02-\x05]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")
# Control characters between the fields and values of Hive's text files.
_DELIMITERS: Final = (b"\x01", b"\x02", b"\x03", b"\x1e", b"\x1f")
_ZLIB: Final = re.compile(rb"x[\x01\x5e\x9c\xda]")
_DUCKDB_AT: Final = 8
_TAR_AT: Final = 257
_PAGE: Final = re.compile(rb"\s*(<!doctype html|<html|<head|<script)", re.IGNORECASE)
_MARKUP: Final = re.compile(rb"\s*<(\?xml|[A-Za-z][A-Za-z0-9:]*[ >])")
_POINTERS: Final[tuple[tuple[re.Pattern[bytes], str, str], ...]] = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "only a Git LFS pointer; the data was never downloaded",
        "run `git lfs pull` in its repository",
    ),
    (
        re.compile(rb"(\.\./)*(\.git)?/annex/objects/"),
        "only a git-annex pointer; the data was never downloaded",
        "run `git annex get {name}` in its repository",
    ),
    (
        re.compile(rb"(md5: .*\n)?outs:\n- +(md5|etag|hash|path|size)"),
        "only a DVC pointer",
        "run `dvc pull {name}` in its repository and give the file it stands for",
    ),
)


def refuse_foreign(uri: str, data: bytes, packed: bool = False) -> None:
    """Rejects a file whose first bytes show that it is neither a table nor lines of text.

    Args:
        name: File name for the error message.
        data: First bytes of the file, decompressed if it is compressed.
        packed: Whether ``data`` was decompressed.

    Raises:
        DasError: Names the kind of file and the command that converts it.
    """
    foreign = _foreign(data, packed)
    if foreign is None:
        return
    what, fix = foreign
    if packed:
        what = f"a compressed file that holds {what}"
        if "tar archive" not in what:
            fix = f"unpack it, then {fix}"
    raise _refusal(uri, what, fix)


def is_binary(data: bytes) -> bool:
    """Returns whether bytes that are not UTF-8 are no text in another encoding either: many are control characters."""
    controls = len(_CONTROL.findall(data)) - sum(map(data.count, _DELIMITERS))
    return 50 * controls > len(data)


def refuse_binary(uri: str, data: bytes) -> NoReturn:
    """Rejects a file with zero bytes, by its name where that says what it is.

    Raises:
        DasError: Names the kind of file, or what its zero bytes suggest.
    """
    # In UTF-16 every second byte of Latin text is zero; without a byte order mark this is the only sign.
    low, high = data[::2].count(b"\x00"), data[1::2].count(b"\x00")
    for order, zeros, others in (("LE", high, low), ("BE", low, high)):
        if 5 * zeros > 2 * len(data) and 20 * others < len(data):
            fix = f"convert it with `iconv -f UTF-16{order} -t UTF-8 {{name}} > utf8-{{name}}`"
            raise _refusal(uri, "UTF-16 text", fix)
    named = _BY_NAME.get(uri.lower().rsplit(".", 1)[-1])
    if named:
        raise _refusal(uri, *named)
    if not _CONTROL.search(data.rstrip(b"\x00")):
        raise DasError(
            f"{uri}: the text ends in zero bytes, as after a crash or an unfinished copy, so rows may be missing; "
            f"fetch the file again, or remove them with `tr -d '\\000' < FILE > ROWS`."
        )
    if 10 * data.count(b"\x00") < len(data) and not _CONTROL.search(data.replace(b"\x00", b"")):
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise DasError(
            f"{uri}: the text holds zero bytes (the first in line {line}), as after a crash or from padded fields; "
            f"remove them with `tr -d '\\000' < FILE > ROWS`."
        )
    raise DasError(
        f"{uri}: the file is binary, not text, of an unknown format; write it as Parquet, CSV or JSON lines."
    )


def _refusal(uri: str, what: str, fix: str) -> DasError:
    name = uri.rsplit("/", 1)[-1]
    stem = re.sub(r"\.[A-Za-z0-9]{1,8}$", "", name) or name
    return DasError(f"{uri}: the file is {what}; {fix.replace('{name}', name).replace('{stem}', stem)}.")


def _foreign(data: bytes, packed: bool) -> tuple[str, str] | None:
    """Returns the kind of file and the remedy; None if the file may be a log."""
    for magic, what, fix in _BY_MAGIC:
        if data.startswith(magic):
            return what, fix
    if packed and data.startswith((b"PAR1", b"ARROW1", b"ORC")):
        return "a table (Parquet, Arrow or ORC), which is not read from a compressed file", "pass the table itself"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(data)
    if data[_TAR_AT : _TAR_AT + 5] == b"ustar" or _is_old_tar(data):
        return f"a tar archive (its first member: {_tar_member(data)})", _UNPACK.format(line="tar -xf {name}")
    if _ZLIB.match(data) and b"\n" not in data[:2] and not data[:64].isascii():
        return (
            "compressed by zlib, without a gzip header",
            'unpack it with `python -c "import sys, zlib; '
            'sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))" < {name} > {stem}`',
        )
    if data[_DUCKDB_AT : _DUCKDB_AT + 4] == b"DUCK":
        return "a DuckDB database", "export its table with `duckdb {name} \"copy TABLE to '{stem}.parquet'\"`"
    if _PICKLE.match(data) and b"\n" not in data[:2]:
        return (
            "a Python pickle, which is not opened since it can run any code",
            "if you trust it, convert it with "
            "`python -c \"import pandas as pd; pd.DataFrame(pd.read_pickle('{name}')).to_parquet('{stem}.parquet')\"`",
        )
    if _PAGE.match(data):
        return "an HTML page, possibly a login or error page saved under this name", "download the log again"
    if _MARKUP.match(data):
        return (
            "XML, not a table (possibly an error message from the storage)",
            "inspect it, and convert or download it again",
        )
    for pattern, what, fix in _POINTERS:
        if pattern.match(data):
            return what, fix
    return None


def _is_old_tar(data: bytes) -> bool:
    """Whether a first block has the checksum of a tar header, which the oldest archives have without a magic number."""
    if len(data) < 512 or not data[0] or not re.fullmatch(rb"[ 0]*[0-7]{3,}[ \x00]*", data[148:156]):
        return False
    return sum(data[:148]) + 8 * ord(" ") + sum(data[156:512]) == int(data[148:156].strip(b" \x00"), 8)


def _tar_member(data: bytes) -> str:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            first = archive.next()
    except tarfile.TarError:
        first = None
    return first.name if first else data[:100].rstrip(b"\x00").decode("utf-8", "replace")


def _zip(data: bytes) -> tuple[str, str]:
    length = int.from_bytes(data[26:28], "little")
    first = data[30 : 30 + length].decode("utf-8", "replace") if data.startswith(b"PK\x03\x04") else ""
    if first.startswith(("[Content_Types]", "_rels/", "docProps/", "xl/")):
        return (
            "an Excel workbook",
            "save its sheet as CSV, or convert it with "
            "`python -c \"import pandas as pd; pd.read_excel('{name}').to_csv('{stem}.csv', index=False)\"`",
        )
    if first == "mimetype" and b"opendocument" in data[:200]:
        return "an OpenDocument spreadsheet", "save its sheet as CSV"
    if first in _SPARSE:
        return (
            "a sparse matrix of SciPy (.npz)",
            'write a row for each of its values with `python -c "import numpy as np, scipy.sparse as s; '
            "m = s.load_npz('{name}').tocoo(); np.savetxt('{stem}.csv', np.c_[m.row, m.col, m.data], '%.12g', ',')\"` "
            "and name its columns with --columns user_id item_id rating",
        )
    if first.endswith(".npy"):
        return (
            "a NumPy archive (.npz)",
            "write its arrays side by side, with `python -c \"import numpy as np, polars as pl; a = np.load('{name}'); "
            "pl.concat([pl.DataFrame(a[k], [k] if a[k].ndim == 1 else None, orient='row') for k in a.files], "
            "how='horizontal').write_parquet('{stem}.parquet')\"` (one of several columns gives column_0, column_1 …)",
        )
    if first.endswith("data.pkl"):
        return "a PyTorch checkpoint", "load it with torch.load and write its table as Parquet or CSV"
    inside = f" (its first member: {first})" if first else " without members"
    return f"a zip archive{inside}", _UNPACK.format(line="unzip {name}")
