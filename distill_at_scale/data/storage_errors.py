"""Turns the exceptions of storage clients into one sentence about a URI. No other module knows how clients fail."""

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
    """Turns the exceptions of storage clients into one sentence about ``uri``.

    FileNotFoundError passes, since the caller knows what it means; so do a DasError and Arrow's errors about a file's
    content.

    Raises:
        StorageError: The storage cannot be reached, refuses access or is unknown, or another I/O error occurred.
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


def is_outage(error: Exception) -> bool:
    """Whether a remote storage server was away or overloaded, so that the same request may succeed later."""
    chain = _chain(error)
    answers = [answer for one in chain if isinstance(answer := getattr(one, "response", None), dict)]
    codes = [answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) for answer in answers]
    return any(type(one).__name__ in _UNREACHABLE for one in chain) or any(code >= 500 for code in codes)


def _sentence(error: Exception, uri: str) -> str | None:
    """Describes the failure, without a full stop; None if the exception should pass unchanged."""
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
        return "this kind of storage does not support the operation (http:// is read-only, for example); choose another"
    if isinstance(error, OSError):
        if is_local(uri):
            # An OSError without a number comes from Arrow and concerns the file's content.
            return None if error.errno is None else _reason(error)
        return f"the storage refused: {shown(error, uri)}"
    return None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device; make room and run the same command again"
    return str(error.strerror or error)


def shown(error: BaseException, *uris: str) -> str:
    """Formats a foreign exception on one line, without the secrets in addresses."""
    text = " ".join(str(error).split()) or type(error).__name__
    for uri in uris:
        text = text.replace(uri, redact(uri))
    return redact_text(text).rstrip(".")


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
