"""The smallest data there are, one item, one user, one row: every model fits them or says in a sentence why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import make_rows

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS, create_model

SMALLEST: dict[str, tuple[list[list[int]], int]] = {
    "one item": ([[0]] * 6, 1),
    "one user": ([[0, 1, 2]], 4),
    "one row": ([[0]], 1),
    "one row of several items": ([[1]], 3),
    "two users of one item each": ([[0], [1]], 2),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ease": {"lam": 1.0},
    "svd_ae": {"rank": 4},
    "als": {"lam": 0.01},
    "infinite_ae": {"lam": 1.0},
}
SEQUENTIAL = ("svae", "sasrec", "gru4rec")


def timed(rows: Interactions) -> Interactions:
    times = np.arange(rows.n_rows, dtype=np.int64)
    return Interactions(rows.users, rows.offsets, rows.items, rows.n_items, timestamps=times)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("case", list(SMALLEST))
def test_every_model_fits_the_smallest_data_or_says_why_not(name: str, case: str) -> None:
    rows, n_items = SMALLEST[case]
    train = timed(make_rows(rows, n_items))
    settings = SETTINGS.get(name) or ({"epochs": 1} if "epochs" in type(create_model(name)).Config.model_fields else {})
    model = create_model(name, settings)
    if name in SEQUENTIAL and max(map(len, rows)) < 2:
        with pytest.raises(DasError, match=rf"^{name}: no user has enough train rows to learn from; a sequence needs"):
            model.fit(train)
        return
    model.fit(train)
    scores = model.score(train)
    assert scores.shape == (len(rows), n_items)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_no_model_fits_no_rows(name: str) -> None:
    settings = SETTINGS.get(name, {})
    with pytest.raises(DasError, match=rf"^{name}: .*train rows"):
        create_model(name, settings).fit(timed(make_rows([[], []], 3)))
