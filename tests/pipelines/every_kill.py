"""Runs a prepare without Ray that is killed at every single file it writes: before the file gets its name and, unless
the settings say otherwise, after it did.

Each life is a fork of this process, which has imported everything and started nothing; it dies by SIGKILL at the
first point where none before it died. Prints, a JSON line each, where it died and what Dataset.open said then.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import signal
import sys
import tempfile

from prepare_kit import inline_prepare, read_together, two_levels

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError

MOST = 1000
ANY = re.compile("")


def live(
    settings: dict, died_at: set[tuple[str, str]], only: re.Pattern[str] = ANY, after: bool = True
) -> tuple[str, str] | None:
    """One life: where it ended, None if it came through; ``only`` at files whose path has this pattern."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        replace = os.replace

        def die_once(when: str, target: str) -> None:
            if (when, target) not in died_at and only.search(target):
                os.write(writer, json.dumps([when, target]).encode())
                os.kill(os.getpid(), signal.SIGKILL)

        def replace_or_die(source: str, target: str) -> None:
            die_once("before", target)
            replace(source, target)
            if after:
                die_once("after", target)

        os.replace = replace_or_die  # type: ignore[assignment]
        inline_prepare(**settings)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        when, target = json.loads(said)
        return when, target
    assert os.WEXITSTATUS(status) == 0
    return None


def import_all(settings: dict) -> None:
    """Imports what a life imports on its way, as pyarrow does pandas: each life would take longer for that than for
    its work. A first one, which is not killed and writes elsewhere, tells what it is."""
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            inline_prepare(**settings | {"output": os.path.join(folder, "out")})
            os.write(writer, "\n".join(sys.modules).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            names = pipe.read().splitlines()
        _, status = os.waitpid(child, 0)
        assert os.WEXITSTATUS(status) == 0
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def main() -> None:
    settings = json.loads(sys.argv[1])
    if (levels := settings.pop("two_levels", None)) is not None:
        two_levels(*levels)
    if (together := settings.pop("read_together", None)) is not None:
        read_together(*together)
    only, after = re.compile(settings.pop("only", "")), settings.pop("after", True)
    import_all(settings)
    died_at: set[tuple[str, str]] = set()
    while (death := live(settings, died_at, only, after)) is not None:
        died_at.add(death)
        assert len(died_at) < MOST
        try:
            state = Dataset.open(settings["output"]).manifest.fingerprint
        except DasError as error:
            state = str(error)
        print(json.dumps({"when": death[0], "file": death[1], "state": state}))


if __name__ == "__main__":
    main()
