"""Checkpoints of a training run: files on any storage, uploaded while training goes on, the newest few kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from distill_at_scale.data import sealed, storage
from distill_at_scale.data.preparation import restartable

MOST_COPIED = 1 << 28
"""Bytes of a checkpoint up to which it is copied, so that training goes on meanwhile."""
_PIECE = 1 << 26
_NAME = re.compile(r"checkpoint-(\d{12})\.safetensors")


class Checkpoints:
    """The checkpoints in one folder, each named by the number of steps before it.

    Files are written atomically and sealed with a checksum: a damaged one is ignored, and the run resumes from the one
    before it.
    """

    def __init__(self, folder: str, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread = ThreadPoolExecutor(1)
        self._upload: Future[None] | None = None

    def newest(self) -> int:
        """Returns the step of the newest intact checkpoint; 0 if there is none. Damaged ones are removed."""
        return next((steps for steps in sorted(self._steps(), reverse=True) if self._is_sound(steps)), 0)

    def read(self, steps: int) -> bytes:
        """Reads a checkpoint.

        Raises:
            DamagedFileError: The file is missing or damaged.
        """
        return bytes(self.view(steps))

    def view(self, steps: int) -> memoryview:
        """Like :meth:`read`, without copying to ``bytes``."""
        return memoryview(sealed.read(self._uri(steps), restartable.FIX))

    def _is_sound(self, steps: int) -> bool:
        return sealed.is_sound(self._uri(steps), "checkpoint", "the run goes on from the one before it")

    def write(self, steps: int, content: bytes) -> None:
        """Uploads a checkpoint in the background, after waiting for the previous upload.

        Raises:
            DasError: The previous upload failed.
        """
        self.wait()
        self._upload = self._thread.submit(self._write, steps, content)

    def write_parts(self, steps: int, parts: Sequence[memoryview]) -> None:
        """Writes a checkpoint from pieces that refer to memory which training changes.

        A small one is copied and uploaded in the background. A large one is written before this returns, since a copy
        would double the memory of the run.

        Raises:
            DasError: The previous upload failed.
        """
        if sum(part.nbytes for part in parts) <= MOST_COPIED:
            self.write(steps, b"".join(parts))
            return
        self.wait()
        self._write(steps, *(part[k : k + _PIECE] for part in parts for k in range(0, part.nbytes, _PIECE)))

    def wait(self) -> None:
        """Waits for the last upload.

        Raises:
            DasError: The upload failed.
        """
        if self._upload is not None:
            self._upload.result()
            self._upload = None

    def _write(self, steps: int, *content: bytes | memoryview) -> None:
        sealed.write(self._uri(steps), *content)
        for old in sorted(self._steps())[: -self._keep]:
            storage.remove(self._uri(old))

    def _steps(self) -> list[int]:
        names = (file.uri.rsplit("/", 1)[-1] for file in storage.list_files(self._folder))
        return [int(found.group(1)) for found in map(_NAME.fullmatch, names) if found]

    def _uri(self, steps: int) -> str:
        return storage.join(self._folder, f"checkpoint-{steps:012d}.safetensors")
