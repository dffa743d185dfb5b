"""Files that are no part of the log, among others that are: the error about one of them names the others."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

_One = TypeVar("_One")
_Result = TypeVar("_Result")


def each_of(
    work: Callable[[_One], _Result],
    items: Sequence[_One],
    uris: Sequence[str],
    mapped: Callable[[Callable[[_One], Any], Sequence[_One]], Iterable[Any]] = map,
    likely: Callable[[_Result], bool] = lambda result: True,
) -> list[_Result]:
    """Returns the result for each file.

    Args:
        work: Function of one item.
        items: One item for each file.
        uris: Addresses of the files.
        mapped: ``map``, or that of a pool.
        likely: Whether a result is that of a log; the message names one of these files if it can.

    Raises:
        DasError: The first that ``work`` raises. If it succeeds for other files, the message says how they are given
            without this one: published logs often lie beside other tables.
    """

    def tried(item: _One) -> _Result | DasError:
        try:
            return work(item)
        except DasError as error:
            return error

    results: list[_Result] = []
    errors: list[DasError] = []
    failed: list[str] = []
    good, certain = "", False
    for result, uri in zip(mapped(tried, items), uris):
        if isinstance(result, DasError):
            errors.append(result)
            failed.append(uri)
        else:
            results.append(result)
            if not certain and (likely(result) or not good):
                good, certain = uri, likely(result)
    if not errors:
        return results
    error = errors[0]
    known = {str(one).replace(storage.redact(uri), "") for one, uri in zip(errors, failed)}
    if good and type(error) is DasError:
        others = f"{len(results):,} other file" + ("s" if len(results) > 1 else "")
        one = shlex.quote(storage.redact(good))
        what = (
            f"; if this file does not belong to the log, give only those that do ({others} can be read: --input {one}"
        )
        raise DasError(str(error).rstrip(".") + what + (" …)." if len(results) > 1 else ").")) from error
    if len(known) > 1 and type(error) is DasError:
        # The files fail for reasons of their own: they are hardly parts of one log.
        more = f"; if this file does not belong to the log, give only those that do (of {len(uris):,} files)."
        raise DasError(str(error).rstrip(".") + more) from error
    raise error
