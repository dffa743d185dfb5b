"""Unfinished files that another run on the same output has cleared."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_at_scale.data.preparation.buckets import read_columns
from distill_at_scale.errors import DasError


def test_files_that_another_run_has_cleared_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DasError, match="unfinished files of this run are gone; another run on the same output"):
        read_columns(str(tmp_path / "_work"), 0)
