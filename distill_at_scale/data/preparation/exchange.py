"""The exchange of rows between the fragments of a log and the buckets of its users: its levels, opens and bytes.

With one level every bucket opens every source's file. If each fragment were a source, there would be 680,000 opens at
1 G rows, 109 M at 10 G, of files with an index of 16,384 chunks each; so beyond some 300 M rows a source is several
fragments, read by one task that holds their rows until those of a bucket are together. That does up to some 3 G rows.

With two levels, the log is read twice. The first time its rows are counted and its items numbered; the second time a
task deals those of a group of fragments into buckets, and writes a file for each of 128 ranges of these: from memory
or, for a group of many rows, by way of files that it alone needs, first into ranges and then, range by range, into
buckets. A bucket opens one file a group, and a range is removed once its buckets are sorted.

With either, a source's rows lie in several files, of some parts each, so that these can be removed as soon as they are
read. Where no more than a quarter of the buckets is sorted at a time, as on all but small logs on many CPUs, unfinished
work takes no more than the log.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ONE_LEVEL = 1 << 17
"""Most opens of one level with a source for each fragment: those of about 300 M rows."""
TOGETHER = 1 << 20
"""Most opens of one level with several fragments in a source."""
_TOGETHER_ROWS = 1 << 23
"""Maximum number of rows of several fragments in a source."""
_RANGES = 128
# Groups of a log at least, since those that are dealt at the same time need room beside the rest.
_GROUPS = 96
# Sources of a group at most: files that a process has open.
_MOST_OPEN = 512
# Opens of buckets to stay below, by larger groups.
_OPENS = 7 << 18
# Files of a source, each with the rows of as many parts.
_SLABS = 8


@dataclass(frozen=True)
class Exchange:
    """A plan of the exchange.

    Attributes:
        sources: Number of tasks that deal: for each fragment of a log, or for several fragments together.
        parts: Number of parts that each deals its rows into, by a hash of the user: buckets, or ranges of buckets.
        group: Number of sources that are merged into one; 0 with one level.
        buckets: Number of buckets that it was planned for.
        together: Number of fragments of a source.
    """

    sources: int
    parts: int
    group: int = 0
    buckets: int = 0
    together: int = 1

    @classmethod
    def plan(cls, fragments: int, buckets: int, rows: int | None = None) -> Exchange:
        """Plans the exchange.

        Args:
            fragments: Number of fragments of a log.
            buckets: Number of buckets.
            rows: About how many rows the log has; None: unknown, so that no fragments are read together.
        """
        opens = fragments * buckets
        if opens <= ONE_LEVEL:
            return cls(fragments, buckets, 0, buckets)
        together = min(fragments // _GROUPS, _TOGETHER_ROWS * fragments // max(rows, 1)) if rows is not None else 1
        if together > 1 and -(-fragments // together) * buckets <= TOGETHER:
            return cls(-(-fragments // together), buckets, 0, buckets, together)
        group = max(math.ceil(fragments / _GROUPS), math.ceil(opens / _OPENS))
        return cls(fragments, min(_RANGES, buckets), min(group, _MOST_OPEN), buckets)

    @property
    def merges(self) -> bool:
        """Whether there are two levels."""
        return self.group > 0

    def fragments_of(self, source: int, n: int) -> range:
        """The fragments of a source, of ``n`` fragments in all."""
        return range(source * self.together, min((source + 1) * self.together, n))

    @property
    def groups(self) -> list[range]:
        """The sources of each group; none with one level."""
        if not self.merges:
            return []
        return [range(k, min(k + self.group, self.sources)) for k in range(0, self.sources, self.group)]

    @property
    def slabs(self) -> list[range]:
        """The parts whose rows lie in the same file of a source."""
        size = max(2, math.ceil(self.parts / _SLABS))
        return [range(k, min(k + size, self.parts)) for k in range(0, self.parts, size)]

    def parts_of(self, bucket: int, n_buckets: int) -> range:
        """The parts that hold rows of ``bucket`` of ``n_buckets``; one, if the one number divides the other."""
        return _overlap(bucket, n_buckets, self.parts)

    def buckets_of(self, part: int, n_buckets: int) -> range:
        """The buckets of ``n_buckets`` that have rows in ``part``."""
        return _overlap(part, self.parts, n_buckets)

    def opens(self, n_buckets: int) -> int:
        """Number of times that a file is opened for reading."""
        if not self.merges:
            return self.sources * n_buckets
        # The log once more, and what it is dealt into at first.
        ranges = sum(len(self.parts_of(bucket, n_buckets)) for bucket in range(n_buckets))
        return (1 + len(self.slabs)) * self.sources + len(self.groups) * ranges

    def peak(self, dealt: float, merged: float, sorted_: float, n_buckets: int, at_once: int) -> float:
        """Largest number of bytes of a row of the log in unfinished work, over all rows.

        Args:
            dealt, merged, sorted_: Bytes of a row in the files of sources and of ranges, and of sorted buckets.
            n_buckets: Number of buckets.
            at_once: Number of tasks at the same time.
        """
        read, removed, merging = dealt, len(self.slabs), [dealt]
        if self.merges:
            n, read, removed = len(self.groups), merged, self.parts
            running = min(at_once, n)
            # Of each running group what it was dealt into, or what that became, and of one file both.
            own = max(dealt, merged) + min(dealt, merged) / len(self.slabs)
            merging = [merged * k / n + own * min(running, n - k) / n for k in range(n)]
        # Files are removed in order; the buckets that are being sorted belong to the next ones.
        behind = min(at_once / n_buckets, 1) + 1 / removed
        sorting = [read * (1 - k / removed) + sorted_ * min(k / removed + behind, 1) for k in range(removed + 1)]
        return max(*merging, *sorting)


def _overlap(k: int, n: int, others: int) -> range:
    """Which of ``others`` equal ranges of the hash space overlap range ``k`` of ``n``."""
    return range(k * others // n, -(-(k + 1) * others // n))
