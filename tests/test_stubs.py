"""The stubs are what the settings say now, and type checkers take calls as users write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill_at_scale import stubs

PACKAGE = Path(stubs.__file__).parent


@pytest.mark.parametrize(
    "file", ["__init__.pyi", "models/__init__.pyi", "samplers/__init__.pyi", "distillation/distillers/__init__.pyi"]
)
def test_stubs_are_up_to_date(file: str) -> None:
    made = stubs.stubs()
    assert file in made
    assert (PACKAGE / file).read_text() == made[file], "run `python -m distill_at_scale.stubs`"


CALLS = """
import distill_at_scale as das
from distill_at_scale.config import FitConfig

data = das.prepare("log.csv", output="data", split="leave_2")
model = das.models.Ease(lam=400.0).fit(data)
das.models.MF(dim=8, epochs=2, betas=(0.9, 0.99), device="cpu").recommend(data, k=20)
das.models.Ease(das.models.Ease(grid=(1, 2)).config)
das.models.Ease(config=None)
das.fit(data, "ease", output="models", set={"lam": 5})
config: FitConfig
das.fit(config, overwrite=True)
das.evaluate(data, model, ks=[5]).metrics["ndcg@5"]
small = das.samplers.RandomUsers(seed=0).sample(data, budgets=[0.5, 0.1])
das.compare(data, list(small.values()), models=["ease", "mf"], output="c")
das.distillers.DistillCF(users=5, rows="unit").distill(data).n_users
das.sample(data, das.samplers.SvpMf(proxy_epochs=3), budget=0.5, output="s").samples[0].uri
"""
WRONG = """
das.fit(data, "ease")
das.fit(data, "ease", output="o", wokers=2)
das.models.Ease(lamb=4)
das.models.Ease(lam="4")
das.models.Ease(dtype="float16")
das.models.Ease(400)
das.samplers.Random(proxy_epochs=3)
das.distillers.Sketch(rows="unit")
das.prepare("log.csv", output="data", duplicates="lst")
das.distillers.DistillCF(users="five")
"""


@pytest.mark.slow
def test_a_type_checker_takes_right_calls_and_finds_wrong_ones(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(CALLS + WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--ignore-missing-imports", "calls.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    first = CALLS.count("\n") + 2
    assert lines == set(range(first, first + WRONG.count("\n") - 1)), done.stdout
