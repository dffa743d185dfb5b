"""The one place that knows how storage clients fail: their exceptions become one sentence about an address."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import pyarrow as pa

from distill_at_scale.errors import DasError, StorageError
from distill_at_scale.uris import is_local, redact, redact_text

_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "DefaultCredentialsError"}
_UNREACHABLE = {
    "EndpointConnectionError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ReadTimeoutError",
    "HTTPClientError",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientOSError",
    "ServerDisconnectedError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "ConnectionError",
    "ResponseParserError",
    "NoValidConnectionsError",
    "gaierror",
    "TimeoutError",
}
_DENIED = {401, 403}


@contextlib.contextmanager
def explain(uri: str) -> Iterator[None]:
    """Turns the many exceptions of storage clients into one sentence about ``uri``.

    A missing file stays a FileNotFoundError (callers know better what it means), a DasError passes, and so does
    what Arrow says of a file's content.

    Raises:
        StorageError: out of reach, refused, unknown; of what is left what an input or output error said.
    """
    try:
        yield
    except (DasError, pa.ArrowInvalid):
        raise
    except Exception as error:
        sentence = _sentence(error, uri)
        if sentence is None:
            raise
        raise StorageError(f"{redact(uri)}: {sentence}.") from error


def _sentence(error: Exception, uri: str) -> str | None:
    """What is wrong, without a full stop; None where the exception should stay what it is."""
    chain = _chain(error)
    names, said = {type(one).__name__ for one in chain}, " ".join(str(one) for one in chain)
    if names & _NO_CREDENTIALS:
        return "no storage credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, PermissionError) or any(getattr(one, "status", None) in _DENIED for one in chain):
        if is_local(uri):
            return "permission denied; check the rights on the path"
        return (
            "access denied by the storage; check the credentials in the environment "
            "(for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and the rights on the path"
        )
    if names & _UNREACHABLE and not is_local(uri):
        return "the storage server cannot be reached; check AWS_ENDPOINT_URL, the network and the server"
    if isinstance(error, FileNotFoundError):
        missing = "bucket does not exist" in said.lower() or "NoSuchBucket" in said
        return "the bucket does not exist; create it or correct the URI" if missing else None
    if isinstance(error, NotImplementedError):
        return "this kind of storage cannot do what was asked of it, as http:// cannot be written to; choose another"
    if isinstance(error, OSError):
        if is_local(uri):
            # Without a number it is Arrow's, about what the file holds.
            return None if error.errno is None else _reason(error)
        return f"the storage refused: {shown(error, uri)}"
    return None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device; make room and run the same command again"
    return str(error.strerror or error)


def shown(error: BaseException, *uris: str) -> str:
    """What a foreign exception says, on one line and without the secrets of addresses in it."""
    text = " ".join(str(error).split()) or type(error).__name__
    for uri in uris:
        text = text.replace(uri, redact(uri))
    return redact_text(text).rstrip(".")


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found
