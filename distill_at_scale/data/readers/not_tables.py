"""Rejects text that is nearly a delimited table, with what makes it one: comments before it, tables drawn for the eye,
rows of another width than the header."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.errors import DasError
from distill_at_scale.facts import count_of

# Comments of KONECT, Matrix Market, NumPy and SQL, the head of ARFF, and Excel's line that names the delimiter.
_PREAMBLE: Final = re.compile(r"([#%]+|//|--)( |\t|$)|%%|##|@(relation|attribute|data)\b|\"?sep=.\"?$", re.IGNORECASE)
# The line below the header, or around it, in the output of database shells and in Markdown.
_RULE: Final = re.compile(r"\s*[-+|:=─┼│]*(-{2,}|─{2,})[-+|:=─┼│ ]*")
_ITEM_LINE: Final = re.compile(r"[0-9]+:")
_USER_LINE: Final = re.compile(r"[0-9]+(,|$)")
_COUNTED_USER: Final = re.compile(r"[0-9]+\|([0-9]+)")
_UNNAMED: Final = re.compile(r"|Unnamed: [0-9]+|rownames|row\.names|index|X", re.IGNORECASE)
# A feature of LIBSVM and LETOR, and a field of key=value logs.
_LABEL: Final = re.compile(r"[-+]?[0-9.]+")
_PAIR: Final = re.compile(r"([0-9]+|qid):([0-9]+:)?[-+0-9.eE]+")
_NAMED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=")
# The name of a field on its own line, such as product/productId.
_KEY: Final = re.compile(r"([A-Za-z][A-Za-z0-9_ /.-]{0,40}):(?: |$)")
_SQL: Final = re.compile(
    r"(INSERT INTO|CREATE (TABLE|DATABASE)|DROP TABLE|SET [a-z_]+ *=|LOCK TABLES|COPY .* FROM stdin)\b", re.IGNORECASE
)
_SQL_LINES: Final = 40
_COMPARED: Final = 50
# Header and rows are compared only if there are this many rows.
_LEAST_ROWS: Final = 3
_MANY: Final = 6
# Of more fields nobody names all.
_MOST_NAMED: Final = 20


def refuse_counts(name: str, fields: Sequence[Sequence[str]]) -> None:
    """Rejects lines of items that begin with their number, as those of CiteULike do, and name no user.

    Raises:
        DasError: Names the file and the command that gives each line a user.
    """
    lengths = {len(line) for line in fields if line}
    counted = all(line[0] == str(len(line) - 1) for line in fields if line)
    # Two lengths may be chance; one length is not, where there are many items.
    if not counted or not (len(lengths) > 2 or (min(lengths, default=0) > _MANY and len(fields) >= _LEAST_ROWS)):
        return
    first = " ".join(fields[0])[:50]
    raise DasError(
        f"{name}: each line begins with the number of its items ({first}), and names no user; write the number of the "
        f"line in its place, with `awk '{{$1 = NR; print}}' FILE > FILE.txt`."
    )


def refuse_colons(name: str, fields: Sequence[Sequence[str]]) -> None:
    """Rejects lines of a user, a colon and the user's items: the colon would become a part of the user's id.

    Raises:
        DasError: Names the file and the command that takes the colons out.
    """
    if any(fields) and all(line[0].endswith(":") for line in fields if line):
        first = " ".join(fields[0])[:50]
        raise DasError(
            f"{name}: each line begins with a user and a colon ({first}), which would stay part of the id; take it out "
            f"with `sed 's/: */ /' FILE > FILE.txt`."
        )


def refuse_marks(name: str, fields: Sequence[Sequence[str]]) -> None:
    """Rejects sequences of SPMF, in which -1 stands after each group of items and -2 at the end: none of them an item.

    Raises:
        DasError: Names the file and the command that gives each line a user and keeps only its items.
    """
    lines = [line for line in fields if line]
    if lines and all(line[-1] == "-2" and "-1" in line for line in lines):
        first = " ".join(lines[0])[:50]
        raise DasError(
            f"{name}: -1 and -2 end the groups of items and the lines ({first}), as in files of SPMF, and no line has "
            f"its user; write the number of the line there and leave them out, with "
            f"`awk '{{r = NR; for (k = 1; k <= NF; k++) if ($k != -1 && $k != -2) r = r \" \" $k; print r}}' "
            f"FILE > ROWS`."
        )


def refuse_blocks(name: str, lines: Sequence[str], text: str) -> None:
    """Rejects rows whose fields stand on lines of their own, ``review/userId: A1``, with a blank line after each row.

    Args:
        name: File name for the message.
        lines: First lines that are not blank.
        text: First lines with the blank ones.

    Raises:
        DasError: Names the file, the command that writes a row a line, and the columns.
    """
    matches = [_KEY.match(line) for line in lines[:_COMPARED]]
    keys = [match[1] if match else "" for match in matches]
    width = keys.index(keys[0], 1) if keys[0] in keys[1:] else 0
    if width < 2 or "\n\n" not in text or any(not key or key != keys[k % width] for k, key in enumerate(keys)):
        return
    names = " ".join(re.sub(r"[^A-Za-z0-9_]+", "_", key.rsplit("/", 1)[-1].strip()) for key in keys[:width])
    raise DasError(
        f"{name}: each field stands on a line of its own, with its name ({lines[0][:60]}), as in the reviews of SNAP; "
        f'write a row a line with `awk \'BEGIN {{RS = ""; FS = "\\n"; OFS = "\\t"}} {{for (k = 1; k <= NF; k++) '
        f'{{sub(/^[^:]*: ?/, "", $k); gsub(/\\t/, " ", $k)}} print}}\' FILE > ROWS`, and name the columns with '
        f"--columns {names}."
    )


def refuse_comma_lines(name: str, lines: Sequence[str]) -> None:
    """Rejects lines of numbers between commas that differ in length; lines of a user with items have blanks instead.

    Raises:
        DasError: Names the file and the command that writes blanks.
    """
    rows = [line.split(",") for line in lines if line.strip()]
    lengths = {len(row) for row in rows}
    if len(lengths) > 2 and min(lengths) > 1 and all(field.strip().isdecimal() for row in rows for field in row):
        raise DasError(
            f"{name}: the lines have {min(lengths)} to {max(lengths)} numbers between commas ({lines[0][:50]}); if "
            f"each line is a user with the user's items, write blanks with `tr ',' ' ' < FILE > FILE.txt`."
        )


def refuse_preamble(name: str, lines: Sequence[str], text: str) -> None:
    """Rejects lines in front of the header, or of the rows, that no table has.

    Args:
        name: File name for the message.
        lines: First lines that are not blank.
        text: First lines with the blank ones, which the commands that drop lines count too.

    Raises:
        DasError: Names the file and the command that removes them.
    """
    start = "".join(lines[:3])
    if ("|" in start or "+" in start) and any(map(_RULE.fullmatch, lines[:3])):
        raise DasError(
            f"{name}: a table drawn for the eye, as database shells and Markdown show it ({lines[0][:50]}); "
            f"export it as CSV (psql: \\copy … csv header; mysql: --batch), or convert it with "
            f"`grep -v -- '--' FILE | sed 's/^ *| *//; s/ *| *$//; s/^ *//; s/ *| */,/g' > FILE.csv`."
        )
    if _ITEM_LINE.fullmatch(lines[0]) and len(lines) > 1 and _USER_LINE.match(lines[1]):
        # The probe set has users alone, and the qualifying set users with dates.
        below = lines[1].split(",")[1:]
        names = (
            ["rating", "timestamp"] if len(below) > 1 else ["timestamp" if "-" in one else "rating" for one in below]
        )
        raise DasError(
            f"{name}: a line with an item ({lines[0]}) is above the lines of its users, as in the Netflix Prize data; "
            f"write the item on each line with `awk -F: '/:$/ {{i = $1; next}} {{print i \",\" $0}}' FILE > FILE.csv`, "
            f"and name the columns with --columns {' '.join(['item_id', 'user_id', *names])}."
        )
    counted = _COUNTED_USER.fullmatch(lines[0])
    if counted and 0 < int(counted[1]) < len(lines) and not any("|" in line for line in lines[1 : int(counted[1]) + 1]):
        raise DasError(
            f"{name}: a line with a user and the number of the user's rows ({lines[0]}) is above these, as in the data "
            f"of KDD Cup 2011; write the user on each line with "
            f'`awk \'/[|]/ {{split($0, u, "|"); next}} {{print u[1] "\\t" $0}}\' FILE > FILE.tsv`, and name the '
            f"columns with --columns, such as user_id item_id rating."
        )
    if any(map(_SQL.match, lines[:_SQL_LINES])):
        raise DasError(
            f"{name}: a dump of a database, with SQL; load it into the database and export its table as CSV, or keep "
            f"the rows of a Postgres dump, with `sed -n '/^COPY .*TABLE/,/^\\\\\\./p' FILE | sed '1d;$d' > ROWS.tsv`, "
            f"and name the columns with --columns."
        )
    before = list(itertools.takewhile(_PREAMBLE.match, lines))
    numbers = [k for k, line in enumerate(text.split("\n"), 1) if line.strip()]
    if lines[0].startswith("%%MatrixMarket") and "coordinate" in lines[0] and len(before) < len(lines):
        raise DasError(
            f"{name}: a Matrix Market file, whose comments a line with the sizes of the matrix follows; keep the rows "
            f"below them with `tail -n +{numbers[len(before)] + 1} FILE > ROWS`, and name the columns with --columns "
            f"user_id item_id rating."
        )
    if not before or len(before) == len(lines) or known_names(re.split(r"[\s,;|]+", before[0]), {}) >= 2:
        return
    what = "line is" if len(before) == 1 else f"{len(before)} lines are"
    skipped = numbers[len(before)]
    raise DasError(
        f"{name}: the first {what} a comment, and no row ({before[0][:60]}); take it out with "
        f"`tail -n +{skipped} FILE > ROWS`, and name the columns with --columns if no header is left."
    )


def refuse_pairs(name: str, lines: Sequence[str]) -> None:
    """Rejects lines of a label and index:value pairs, which are neither rows nor a user with items.

    Raises:
        DasError: Names the file and the command that writes a row for each pair.
    """
    first = [line.split("#")[0].split() for line in lines[:_COMPARED]]
    first = [line for line in first if line]
    pairs = [_PAIR.fullmatch(token) for line in first for token in line[1:]]
    # Two pairs a line on average: one alone may be a time of day.
    if (
        len(pairs) < max(_LEAST_ROWS, 2 * len(first))
        or not all(pairs)
        or not all(_LABEL.fullmatch(line[0]) for line in first)
    ):
        return
    depths = {token.count(":") for line in first for token in line[1:]}
    if len(depths) > 1:
        return
    start = f"{name}: each line holds a label and pairs of index and value ({lines[0][:40]})"
    if depths == {1} and all(len(line) == 3 and line[1].endswith(":1") and line[2].endswith(":1") for line in first):
        raise DasError(
            f"{start}, as in LIBFM files; write a row a line, if the first index is the user and the second the item, "
            f'with `awk \'{{split($2, u, ":"); split($3, i, ":"); print u[1] "," i[1] "," $1}}\' FILE > FILE.csv`, '
            f"and name the columns with --columns user_id item_id rating."
        )
    labels = [line[0] for line in first]
    own = len(labels) >= _LEAST_ROWS and len(set(labels)) == len(labels) and all(map(str.isdecimal, labels))
    user, whose = ("$1", "the label") if own else ("NR", "the number of the line")
    k = 1 if depths == {1} else 2
    where = "in LIBSVM and LETOR files" if k == 1 else "in FFM files"
    raise DasError(
        f"{start}, as {where}; write a row for each pair, with {whose} as the user, with `awk '{{for (k = 2; k <= NF; "
        f'k++) if (split($k, p, ":") == {k + 1} && p[1] != "qid") print {user} "," p[{k}] "," p[{k + 1}]}}\' FILE > '
        f"FILE.csv`, and name the columns with --columns user_id item_id rating."
    )


def refuse_named_fields(name: str, rows: Sequence[Sequence[str]]) -> None:
    """Rejects lines whose fields give their names, as ``user=1 item=7``: read as they are, ids would hold the names.

    Raises:
        DasError: Names the file, the command that removes the names, and the columns.
    """
    matches = [[_NAMED.match(field.strip()) for field in row] for row in rows[:_COMPARED]]
    names = [match[1] if match else "" for match in matches[0]]
    if len(names) < 2 or not all(names) or len(rows) < 2:
        return
    if all([match[1] if match else "" for match in row] == names for row in matches):
        raise DasError(
            f"{name}: each field of a line gives its name ({' '.join(rows[0])[:60]}); remove the names with "
            f"`sed -E 's/(^|[^A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_.]*=/\\1/g' FILE > ROWS`, and name the columns with "
            f"--columns {' '.join(names)}."
        )


def refuse_text_before_json(name: str, lines: Sequence[str]) -> None:
    """Rejects lines with a JSON object behind other text, as programs log them and Kafka's tools print them.

    Raises:
        DasError: Names the file and the command that keeps the objects.
    """
    if all(map(_is_object_after_text, lines[:_LEAST_ROWS])):
        raise DasError(
            f"{name}: each line holds a JSON object behind other text ({lines[0][:60]}); keep the objects, with "
            f"`sed 's/^[^{{]*//' FILE > FILE.jsonl`."
        )


def _is_object_after_text(line: str) -> bool:
    start = line.find("{")
    if start < 1:
        return False
    try:
        return isinstance(json.loads(line[start:]), dict)
    except (ValueError, RecursionError):
        return False


def refuse_other_width(name: str, header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> None:
    """Rejects a header that names more or fewer columns than nearly all rows have fields.

    Raises:
        DasError: Names the file, both numbers, and the option that names the columns.
    """
    if len(rows) < _LEAST_ROWS:
        return
    width, count = Counter(map(len, rows)).most_common(1)[0]
    if width == len(header) or count < 0.8 * len(rows) or width < 2:
        return
    why = ""
    if width == len(header) + 1 and _numbers_rows([row[0] for row in rows if len(row) == width]):
        names = " ".join(["row", *header])
        why = f" (the first field numbers the rows, as R's write.table does: --columns {names})"
    elif width == len(header) + 1 and not any(row[-1].strip() for row in rows if len(row) == width):
        why = f" (each line ends in a delimiter: --columns {' '.join([*header, 'unused'])})"
    elif width > _MOST_NAMED and width > len(header):
        why = f", or keep the first of them, with `cut -d '{delimiter}' -f 1-{len(header)} FILE > ROWS`"
    raise DasError(
        f"{name}: the first line names {count_of(len(header), 'column')} ({', '.join(header)[:80]}), but the "
        f"lines below it have {width} fields; name all fields in the file's order with --columns{why}."
    )


def row_numbers(name: str, header: Sequence[str], rows: Sequence[Sequence[str]], read: Sequence[str]) -> list[Notice]:
    """Reports a first column that only numbers the rows, as R and pandas write it, and which is not read."""
    if len(header) < 3 or header[0] in read or not _UNNAMED.fullmatch(header[0]):
        return []
    first = [row[0] for row in rows if len(row) == len(header)]
    if not _numbers_rows(first):
        return []
    what = f"the first column ('{header[0]}') numbers the rows, as R and pandas write it, and is not read"
    return [Notice(what=what, count=1, unit="file", example=name)]


def _numbers_rows(values: Sequence[str]) -> bool:
    if len(values) < _LEAST_ROWS or not values[0].isdecimal():
        return False
    start = int(values[0])
    return start in (0, 1) and [*values] == [str(start + k) for k in range(len(values))]
