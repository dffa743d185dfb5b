"""Bits of every kind of file are flipped: it is said in one sentence, made again, or changes nothing."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import pytest

from distill_at_scale.errors import DamagedFileError, DasError

sys.path.insert(0, str(Path(__file__).parent / "data"))
from damage_kit import KINDS
from edits_kit import edited


def flip(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    bit = rng.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def cut(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def damage_often(tmp_path: Path, kind: str, times: int, seed: int) -> dict[str, int]:
    """How often damage was said, and how often it changed nothing or was mended.

    Raises:
        AssertionError: it changed what is read; what is said is no sentence about the file.
        Exception: reading ended in a traceback.
    """
    made, rng = KINDS[kind], random.Random(seed)
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    made.make(whole)
    shutil.copytree(whole, damaged)
    before = made.digest(damaged)
    files = sorted(
        {path.relative_to(whole) for pattern in made.files for path in whole.glob(pattern) if path.is_file()}
    )
    files = [file for file in files if (whole / file).stat().st_size]
    found = {"said": 0, "none the worse": 0}
    for k in range(times):
        file = files[k % len(files)] if k < len(files) else rng.choice(files)
        if rng.random() < 0.1:
            cut(damaged / file, rng)
        else:
            flip(damaged / file, rng)
        try:
            assert made.digest(damaged) == before, f"{file}: read as something else"
            found["none the worse"] += 1
        except DasError as error:
            found["said"] += 1
            sentence = str(error)
            problem = f"{file}: {sentence}"
            if not isinstance(error, DamagedFileError) or "\n" in sentence or str(damaged) not in sentence:
                raise AssertionError(problem) from error
        shutil.copytree(whole, damaged, dirs_exist_ok=True)
    assert made.digest(damaged) == before
    return found


# Flips enough that every file of every kind has some.
FEW = dict.fromkeys(KINDS, 12) | {"genie": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_never_silent(tmp_path: Path, kind: str) -> None:
    damage_often(tmp_path, kind, FEW[kind], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_never_silent_however_often(tmp_path: Path, kind: str) -> None:
    """Some 1,100 times over all kinds."""
    found = damage_often(tmp_path, kind, 100, seed=2)
    print(f"{kind}: {found}")


MANIFESTS = ("row scores", "synthetic users", "synthetic sequences", "models", "sweep", "genie")


@pytest.mark.parametrize("kind", MANIFESTS)
def test_no_edit_of_a_manifest_is_taken(tmp_path: Path, kind: str) -> None:
    """As of datasets' (tests/data/test_manifest.py)."""
    made, rng = KINDS[kind], random.Random(3)
    made.make(tmp_path)
    found = [path for pattern in made.files for path in sorted(tmp_path.glob(pattern)) if path.suffix == ".json"]
    for k in range(9):
        file = found[k % len(found)]
        written = file.read_text()
        file.write_text(json.dumps(edited(json.loads(written), rng)))
        with pytest.raises(DasError, match=str(tmp_path)) as refused:
            made.read(tmp_path)
        assert "\n" not in str(refused.value)
        file.write_text(written)


def test_the_work_of_prepare_heals(tmp_path: Path) -> None:
    """What is said to be made again by the same command is: the second run goes through."""
    work, rng = KINDS["work of prepare"], random.Random(5)
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    work.make(whole)
    shutil.copytree(whole, damaged)
    before, said = work.digest(damaged), 0
    for file in sorted(path for path in (damaged / "out" / "_work").rglob("*") if path.is_file()):
        flip(file, rng)
        try:
            found = work.digest(damaged)
        except DamagedFileError:
            said, found = said + 1, work.digest(damaged)
        assert found == before, file
        shutil.copytree(whole, damaged, dirs_exist_ok=True)
    assert said
