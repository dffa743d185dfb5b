"""The search over a grid, the registry, and what memory there is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS, create_model, load_model
from distill_at_scale.models.memory import available_memory
from distill_at_scale.models.selection import Selection, select


def search(peak: float, grid: tuple[float, ...], **options: Any) -> tuple[Selection, str]:
    return select("lam", "ndcg@10", grid, lambda v: (-abs(math.log(v / peak)), f"fit of {v:g}"), **options)


def test_the_best_inside_the_grid() -> None:
    record, fitted = search(4, (1, 2, 4, 8))
    assert (record.chosen, fitted, record.n_extensions, record.at_edge) == (4, "fit of 4", 0, False)
    assert [point.value for point in record.points] == [1, 2, 4, 8]


@pytest.mark.parametrize(("peak", "chosen", "tried"), [(32, 32, [1, 2, 4, 8, 16, 32, 64]), (0.25, 0.25, None)])
def test_the_search_goes_on_beyond_an_edge(peak: float, chosen: float, tried: list[float] | None) -> None:
    record, fitted = search(peak, (1, 2, 4))
    assert (record.chosen, fitted, record.at_edge) == (chosen, f"fit of {chosen:g}", False)
    assert [point.value for point in record.points] == (tried or [0.125, 0.25, 0.5, 1, 2, 4])


def test_a_search_that_never_turns_stops_and_says_so() -> None:
    record, _ = search(1e9, (1, 10))
    assert record.at_edge
    assert record.n_extensions == 6
    assert record.chosen == 1e7


def test_bounds_and_whole_numbers() -> None:
    record, _ = search(1e9, (2, 3, 50), bounds=(0.0, 20.0), integer=True)
    assert [point.value for point in record.points] == [2, 3, 20]
    assert not record.at_edge  # 20 is all there is
    record, _ = search(7, (2, 3), integer=True)
    assert all(point.value == int(point.value) for point in record.points)


def test_equal_metrics_go_to_the_first_and_nan_is_refused() -> None:
    record, fitted = select("lam", "auc", (3, 1, 2), lambda v: (0.5, v))
    assert (record.chosen, fitted) == (1, 1)
    with pytest.raises(DasError, match="lam=2 gives auc NaN"):
        select("lam", "auc", (1, 2), lambda v: (math.nan if v == 2 else 0.0, v))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(DasError, match=f"no model 'eas'; the models are {', '.join(MODELS)}"):
        create_model("eas")
    with pytest.raises(DasError, match="no model here"):
        load_model("/nowhere/at/all")
    assert {"popularity", "ease", "svd_ae", "infinite_ae"} <= set(MODELS)


def test_settings_may_be_text_as_from_a_command_line() -> None:
    assert create_model("ease", {"lam": "400"}).config.lam == 400.0
    with pytest.raises(DasError, match="ease: setting 'metric'"):
        create_model("ease", {"metric": "ndcg"})


def test_available_memory_is_that_of_this_machine() -> None:
    assert 1 << 20 < available_memory() < 1 << 50
