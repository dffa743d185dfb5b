"""Rejects text that is nearly a delimited table, with what makes it one: comments before it, tables drawn for the eye,
rows of another width than the header."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.errors import DasError

# Comments of KONECT, Matrix Market, NumPy and SQL, the head of ARFF, and Excel's line that names the delimiter.
_PREAMBLE: Final = re.compile(r"([#%]+|//|--)( |\t|$)|%%|##|@(relation|attribute|data)\b|\"?sep=.\"?$", re.IGNORECASE)
# The line below the header, or around it, in the output of database shells and in Markdown.
_RULE: Final = re.compile(r"\s*[-+|:=─┼│]*(-{2,}|─{2,})[-+|:=─┼│ ]*")
_ITEM_LINE: Final = re.compile(r"[0-9]+:")
_UNNAMED: Final = re.compile(r"|Unnamed: [0-9]+|rownames|row\.names|index|X", re.IGNORECASE)
# Header and rows are compared only if there are this many rows.
_LEAST_ROWS: Final = 3


def refuse_preamble(name: str, lines: Sequence[str]) -> None:
    """Rejects lines in front of the header, or of the rows, that no table has.

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
    if _ITEM_LINE.fullmatch(lines[0]) and len(lines) > 1 and "," in lines[1]:
        raise DasError(
            f"{name}: a line with an item ({lines[0]}) is above the lines of its users, as in the Netflix Prize data; "
            f"write the item on each line with `awk -F: '/:$/ {{i = $1; next}} {{print i \",\" $0}}' FILE > FILE.csv`, "
            f"and name the columns with --columns item_id user_id rating timestamp."
        )
    before = list(itertools.takewhile(_PREAMBLE.match, lines))
    if not before or len(before) == len(lines) or known_names(re.split(r"[\s,;|]+", before[0]), {}) >= 2:
        return
    what = "line is" if len(before) == 1 else f"{len(before)} lines are"
    skipped = len(before) + 1
    raise DasError(
        f"{name}: the first {what} a comment, and no row ({before[0][:60]}); take it out with "
        f"`tail -n +{skipped} FILE > ROWS`, and name the columns with --columns if no header is left."
    )


def refuse_other_width(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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
    raise DasError(
        f"{name}: the first line names {len(header)} columns ({', '.join(header)[:80]}), but the lines below it have "
        f"{width} fields; name all fields in the file's order with --columns{why}."
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
