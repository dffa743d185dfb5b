"""Sequences: one line per user, the user and then the items in the order of time."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.fields import known_names
from distill_at_scale.data.readers.layout import TextLayout
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.not_tables import (
    refuse_blocks,
    refuse_colons,
    refuse_counts,
    refuse_marks,
    refuse_pairs,
)
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.data.readers.sequences import parse_sequences, tokens
from distill_at_scale.data.readers.text import BLOCK_BYTES, TextHead
from distill_at_scale.data.readers.text_format import SAMPLE_LINES, TextFormat
from distill_at_scale.errors import DasError

_SEQUENCES: Final = (Columns.USER_ID, Columns.ITEM_ID, Columns.TIMESTAMP)
_BESIDES: Final = re.compile(r"[,;|\t]")


class Sequences(TextFormat):
    """One line per user: the user, then the items."""

    name, positions = "sequences", True
    title = "sequences (one line per user: the user, then the items)"
    # A row can take as little as two bytes here; smaller blocks keep batches near a million rows.
    block_bytes = BLOCK_BYTES // 4

    def fits(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
        """Compares the lengths of the lines."""
        return not options.columns and options.delimiter is None and _look_like_sequences(head, lines, options)

    def layout(self, head: TextHead, lines: Sequence[str], options: LogOptions) -> TextLayout:
        """Returns user, item and position."""
        return _layout(head, lines)

    def rows_per_line(self, layout: TextLayout) -> float:
        """Returns the mean number of items."""
        counts = [len(tokens(line)) - 1 for line in layout.head.text.split("\n") if line.strip()]
        return max(1.0, sum(counts) / max(1, len(counts)))

    def parse(self, block: bytes, fragment: Fragment, schema: LogSchema) -> Parsed:
        """Parses one block of users."""
        return parse_sequences(block, fragment, schema)


SEQUENCES = Sequences()


def _look_like_sequences(head: TextHead, lines: Sequence[str], options: LogOptions) -> bool:
    """Returns whether every line is a user with items: lines vary in length and do not begin with a header."""
    refuse_pairs(head.name, lines)
    refuse_blocks(head.name, lines, head.text)
    fields = [tokens(line) for line in lines]
    refuse_counts(head.name, fields)
    if known_names(fields[0], options.map) >= 2 or any(map(_BESIDES.search, lines)):
        return False
    lengths = Counter(len(line) for line in fields if len(line) > 1)
    if 2 * lengths.total() <= len(lines):
        return False
    width, times = lengths.most_common(1)[0]
    if times >= 0.8 * lengths.total():
        return False
    if times >= 0.6 * lengths.total():
        raise DasError(
            f"{head.name}: {times:,} of the first {lengths.total():,} lines have {width} fields separated by blanks, "
            f"the others more or fewer; specify whether this is a table (--delimiter ' ') or one line per user with "
            f"the user's items (--format sequences)."
        )
    whole = [line for line in fields if line]
    users = {line[0] for line in whole}
    if not all(any(map(str.isdigit, token)) for line in whole for token in line) or 2 * len(users) < len(whole):
        raise DasError(
            f"{head.name}: the lines between blanks differ in length, but do not look like a user with the user's "
            f"items ({lines[0][:60]}); if they are, say --format sequences, or name what they are with --format."
        )
    return True


def _layout(head: TextHead, lines: Sequence[str]) -> TextLayout:
    split = [tokens(line) for line in lines]
    refuse_counts(head.name, split)
    refuse_marks(head.name, split)
    refuse_colons(head.name, split)
    samples: dict[str, list[Any]] = {
        Columns.USER_ID: [line[0] for line in split],
        Columns.ITEM_ID: [item for line in split for item in line[1:]][:SAMPLE_LINES],
    }
    what = "no times: an item's position in its line stands for the time, which leave_2 and temporal split by"
    if _sorted_by_id(split):
        what += "; the items of every line are sorted by id, which carries no time (use --split 20_percent_hist)"
    notice = Notice(what=what, count=1, unit="file", example=head.name)
    return TextLayout(head, "sequences", _SEQUENCES, None, 0, samples, noticed=(notice,))


def _sorted_by_id(split: Sequence[Sequence[str]]) -> bool:
    longer = [line[1:] for line in split if len(line) > 3]
    if len(longer) < 5 or not all(item.isdecimal() for line in longer for item in line):
        return False
    return all(int(a) <= int(b) for line in longer for a, b in itertools.pairwise(line))
