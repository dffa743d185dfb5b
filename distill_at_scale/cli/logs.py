"""Log handlers: notes, warnings and errors go to standard error, all messages to a file on request.

The package only logs to ``logging.getLogger("distill_at_scale")`` and its children; the command line adds the handlers.
Levels: DEBUG for -v and files, INFO for notes, WARNING and ERROR for messages that -q also shows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from distill_at_scale.errors import SettingError
from distill_at_scale.logs import PACKAGE, SafeFormatter, StderrHandler


@contextmanager
def shown(quiet: bool = False, verbose: bool = False, file: str | None = None) -> Iterator[None]:
    """Shows messages while the block runs.

    Raises:
        SettingError: The file cannot be written.
    """
    logger = PACKAGE
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handlers: list[logging.Handler] = [StderrHandler(level)]
    if file is not None:
        try:
            kept = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise SettingError(f"--log-file {file} cannot be written: {error.strerror}.") from None
        kept.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(kept)
    before = (logger.level, logger.propagate)
    logger.setLevel(min(handler.level for handler in handlers) or logging.DEBUG)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]
