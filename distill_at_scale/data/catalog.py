"""The public logs that ``das fetch`` knows: their sources, licences, checksums and reader options.

This module does no I/O (``pipelines/fetch.py`` does). Checksums are published ones: the SHA-256 digests of the
MovieLens archives come from TensorFlow Datasets' ``url_checksums/movielens.txt``. If no digest is published,
``sha256`` is None and ``das fetch`` checks the published number of rows instead, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from posixpath import basename
from typing import Any

from distill_at_scale.errors import SettingError
from distill_at_scale.validation import did_you_mean


@dataclass(frozen=True)
class LogSource:
    """A download location of a log: a web address, or a wheel of the Python package registry.

    Attributes:
        name: Name shown to the user.
        location: https address, or a requirement such as ``recbole==1.2.1`` if ``wheel`` is true.
        file: File name of the log in the user's folder.
        options: Options with which ``prepare`` reads that file.
        member: Path of the log inside the zip or wheel; None if ``location`` is the log itself.
        sha256: Digest of the downloaded file (None: unpublished).
        member_sha256: Digest of the log itself, if that is what is pinned.
        header_lines: Number of header lines in the log.
        limit: Maximum size in bytes of the download and of the log inside it.
    """

    name: str
    location: str
    file: str
    options: Mapping[str, Any]
    member: str | None = None
    wheel: bool = False
    sha256: str | None = None
    member_sha256: str | None = None
    header_lines: int = 0
    limit: int = 1 << 30

    @property
    def download(self) -> str:
        """File name of the download; users may also put that file into the folder by hand."""
        return basename(self.location)

    @property
    def checked(self) -> bool:
        """Whether a published or pinned checksum guards this source."""
        return self.sha256 is not None or self.member_sha256 is not None


@dataclass(frozen=True)
class PublicLog:
    """A named public log and its sources, in the order in which they are tried."""

    name: str
    title: str
    rows: int
    homepage: str
    licence: str
    sources: tuple[LogSource, ...] = field(repr=False)


_MOVIELENS_LICENCE = (
    "MovieLens (GroupLens, University of Minnesota): research use; cite Harper and Konstan 2015 "
    "(doi:10.1145/2827872); no redistribution and no commercial use without GroupLens's permission."
)
_AMAZON_LICENCE = (
    "Amazon review data (McAuley et al., UCSD, 2014): made public for research, without a formal licence; "
    "cite McAuley et al. SIGIR 2015 and He and McAuley WWW 2016."
)
_COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
_TAB_SEPARATED = {"format": "csv", "delimiter": "\t", "columns": _COLUMNS}
_RATINGS_CSV = {"format": "csv", "delimiter": ",", "columns": _COLUMNS}
_MB = 1 << 20


def _movielens(
    size: str,
    about: str,
    rows: int,
    file: str,
    sha256: str,
    options: Mapping[str, Any],
    *,
    header_lines: int = 0,
    limit: int,
    others: tuple[LogSource, ...] = (),
) -> PublicLog:
    """A MovieLens log, of GroupLens, then of the Internet Archive, then of ``others``; the checksum guarantees that the
    first two serve the same bytes."""
    name = f"ml-{size.lower()}"
    original = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    places = {"GroupLens": original, "the Internet Archive": f"https://web.archive.org/web/2024id_/{original}"}
    sources = (
        LogSource(
            name=place,
            location=location,
            file=file,
            options=options,
            member=f"{name}/{file}",
            sha256=sha256,
            header_lines=header_lines,
            limit=limit,
        )
        for place, location in places.items()
    )
    return PublicLog(
        name=name,
        title=f"MovieLens {size}: {about}",
        rows=rows,
        homepage=f"https://grouplens.org/datasets/movielens/{size.lower()}/",
        licence=_MOVIELENS_LICENCE,
        sources=(*sources, *others),
    )


_LOGS = (
    _movielens(
        "100K",
        "943 users, 1,682 films, ratings 1-5",
        100_000,
        "u.data",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        _TAB_SEPARATED,
        limit=16 * _MB,
        others=(
            LogSource(
                name="the recbole wheel of the Python package registry",
                location="recbole==1.2.1",
                wheel=True,
                file="ml-100k.inter",
                options={"format": "inter"},
                member="recbole/dataset_example/ml-100k/ml-100k.inter",
                member_sha256="4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                header_lines=1,
                limit=16 * _MB,
            ),
        ),
    ),
    _movielens(
        "1M",
        "6,040 users, 3,706 rated films, ratings 1-5",
        1_000_209,
        "ratings.dat",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        {"format": "movielens"},
        limit=64 * _MB,
    ),
    _movielens(
        "20M",
        "138,493 users, 26,744 rated films, ratings 0.5-5",
        20_000_263,
        "ratings.csv",
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        {"format": "csv", "delimiter": ",", "map": {"user_id": "userId", "item_id": "movieId"}},
        header_lines=1,
        limit=1024 * _MB,
    ),
    PublicLog(
        name="amazon-beauty",
        title="Amazon Beauty ratings 1996-2014: all rows, no k-core; the papers' version is its 5-core",
        rows=2_023_070,
        homepage="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        licence=_AMAZON_LICENCE,
        sources=tuple(
            LogSource(
                name=name,
                location=f"https://{host}ratings_Beauty.csv",
                file="ratings_Beauty.csv",
                options=_RATINGS_CSV,
                limit=256 * _MB,
            )
            for name, host in (
                ("SNAP, Stanford", "snap.stanford.edu/data/amazon/productGraph/categoryFiles/"),
                (
                    "the Internet Archive",
                    "web.archive.org/web/2020id_/http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/",
                ),
            )
        ),
    ),
)

LOGS: Mapping[str, PublicLog] = {log.name: log for log in _LOGS}


def find_log(name: str) -> PublicLog:
    """Returns the catalogue entry with this name.

    Raises:
        SettingError: The name is unknown; the message lists the known names.
    """
    try:
        return LOGS[name]
    except KeyError:
        raise SettingError(
            f"'{name}' is not in the catalogue of public logs; known logs are {', '.join(LOGS)}."
            f"{did_you_mean(name, LOGS)} For your own log run `das prepare --input URI`."
        ) from None
