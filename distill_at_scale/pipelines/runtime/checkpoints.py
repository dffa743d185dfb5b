"""Checkpoints of a training run: files on any storage, uploaded while training goes on, the newest few kept."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor

from distill_at_scale.data import sealed, storage
from distill_at_scale.data.preparation import restartable

_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")


class Checkpoints:
    """The checkpoints in one folder, each named by the number of steps before it.

    Files appear whole or not at all, whatever was killed, and are sealed: of one that is damaged nothing is taken, and
    the run goes on from the one before it.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1)
        self._upload: Future[None] | None = None

    def newest(self) -> int:
        """Steps before the newest undamaged one; 0 where there is none. Damaged ones are removed."""
        return next((steps for steps in sorted(self._steps(), reverse=True) if self._is_sound(steps)), 0)

    def read(self, steps: int) -> bytes:
        """The content of one.

        Raises:
            DamagedFileError: missing or altered.
        """
        return bytes(self.view(steps))

    def view(self, steps: int) -> memoryview:
        """As :meth:`read`, without the copy that it takes to have bytes."""
        return memoryview(sealed.read(self._uri(steps), restartable.FIX))

    def _is_sound(self, steps: int) -> bool:
        return sealed.is_sound(self._uri(steps), "checkpoint", "the run goes on from the one before it")

    def write(self, steps: int, content: bytes) -> None:
        """Uploads one in the background, after waiting for the one before it.

        Raises:
            DasError: when the upload of the one before failed.
        """
        self.wait()
        self._upload = self._thread.submit(self._write, steps, content)

    def wait(self) -> None:
        """Returns when the last upload is done.

        Raises:
            DasError: when it failed.
        """
        if self._upload is not None:
            self._upload.result()
            self._upload = None

    def _write(self, steps: int, content: bytes) -> None:
        sealed.write(self._uri(steps), content)
        for old in sorted(self._steps())[: -self._keep]:
            storage.remove(self._uri(old))

    def _steps(self) -> list[int]:
        names = (file.uri.rsplit("/", 1)[-1] for file in storage.list_files(self._folder))
        return [int(found.group(1)) for found in map(_NAME.fullmatch, names) if found]

    def _uri(self, steps: int) -> str:
        return storage.join(self._folder, f"checkpoint-{steps:012d}.safetensors")
