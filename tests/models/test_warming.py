"""A process that was warmed up has nothing left to load: what it then spends on a fit is the fit's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distill_at_scale.models.warming import warm_up

_CHECK = """
import sys
from distill_at_scale.models import create_model
from distill_at_scale.models.warming import warm_up, _log
import numpy as np

name, less = sys.argv[1], ({"epochs": 2} if sys.argv[2] == "trained" else {})
warm_up(name, less)
before = set(sys.modules)
create_model(name, less).fit(*_log())
print("loaded:", sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize(
    "name", ["svd_ae", "infinite_ae", pytest.param("mf", marks=pytest.mark.slow), "ease", "popularity"]
)
def test_a_fit_after_it_loads_nothing(name: str) -> None:
    kind = "trained" if name == "mf" else "closed"
    ran = subprocess.run([sys.executable, "-c", _CHECK, name, kind], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "loaded: []"


def test_it_never_fails_where_the_fit_itself_has_the_better_words() -> None:
    warm_up("no_such_model")
    warm_up("ease", {"lam": -1})
    warm_up("popularity", synthetic=True)
    warm_up("infinite_ae", {"draw": "memory://nothing/there", "solver": "nystrom"})
