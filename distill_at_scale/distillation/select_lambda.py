"""Selection of λ for synthetic rows on the real users' validation rows, so that fits on the rows need none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.ntk import gram_of
from distill_at_scale.models.selection import Selection, Validated, select
from distill_at_scale.models.synthetic_rows import FactoredRows, RowValues, SyntheticRows

Chosen = dict[str, Selection]
"""Selection of λ, by model."""


@dataclass(frozen=True)
class Tuned:
    """Synthetic rows with the settings of the models that are fitted on them.

    Attributes:
        rows: Rows and settings.
        chosen: Selection of λ, by model; empty without validation rows.
        validated: Validation results of the best λ, by model.
    """

    rows: SyntheticRows
    chosen: Chosen
    validated: Mapping[str, Validated]


_AROUND = (0.25, 0.5, 1.0, 2.0, 4.0)
_EASE_GRID = (400.0, 800.0, 1600.0, 3200.0, 6400.0)


def select_lambdas(values: RowValues, lam: float | None, users: RealUsers, metric: str) -> Tuned:
    """Returns the rows with λ selected for ∞-AE and EASE, the same on every worker.

    Args:
        values: float32 [μ, n_items], or factors.
        lam: ∞-AE's λ that was learned with the rows, around which the search begins; None: 1.
        users: Real users; without validation rows, ``lam`` is kept and EASE gets none.
        metric: Validation metric, such as ``ndcg@10``.
    """
    made = SyntheticRows(values, users.n_users, users.n_rows, n_filled=users.n_filled)
    if not users.has_validation:
        return Tuned(replace(made, chosen={"infinite_ae": {"lam": lam or 1.0}}), {}, {})
    tuned = {
        "infinite_ae": select_ridge(values, lam or 1.0, users, metric),
        "ease": _search(_EASE_GRID, lambda value: ease_score(made, value), users, metric),
    }
    chosen = {model: selection for model, (selection, _) in tuned.items()}
    settings = {model: {"lam": selection.chosen} for model, selection in chosen.items()}
    return Tuned(replace(made, chosen=settings), chosen, {model: validated for model, (_, validated) in tuned.items()})


def select_ridge(values: RowValues, lam: float, users: RealUsers, metric: str) -> tuple[Selection, Validated]:
    """Selects λ of ∞-AE on rows, around ``lam``; the record, and what the best λ reached."""
    around = [lam * factor for factor in _AROUND]
    return _search(around, lambda value: ridge_score(values, value), users, metric)


def ridge_score(values: RowValues, lam: float) -> BlockScorer:
    """Returns the scoring function of ∞-AE fitted on rows."""
    return InfiniteAE(lam=lam).fit_rows(SyntheticRows(values, len(values), len(values))).scorer


def ease_score(rows: SyntheticRows, lam: float) -> BlockScorer:
    """Returns the scoring function of EASE fitted on rows, by a users × users system instead of items × items.

    P = (SᵀS + λI)^-1 = (I − Sᵀ (S Sᵀ + λI)^-1 S) / λ and B = I − P diag(P)^-1 (Steck, WWW 2019, equation 8). Scores of
    the user's own items are not corrected for the zero diagonal of B, since rankings mask them.
    """
    if rows.factors is not None:
        return _ease_score_of_factors(rows.factors, rows.n_rows, lam)
    s = rows.values.astype(np.float64)
    s *= np.sqrt(rows.n_rows / np.square(s).sum())
    solved = scipy.linalg.solve(s @ s.T + lam * np.eye(len(s)), s, assume_a="pos")
    share = 1.0 - np.einsum("ui,ui->i", s, solved)  # λ diag(P)
    s, solved = s.astype(np.float32), (solved / share).astype(np.float32)

    def begin(histories: Interactions) -> BlockScores:
        coordinates = histories.to_csr() @ s.T
        return lambda first, last: coordinates @ solved[:, first:last]

    return BlockScorer(begin)


def _ease_score_of_factors(factors: FactoredRows, n_rows: int, lam: float) -> BlockScorer:
    """:func:`ease_score` of S = Z Vᵀ: scores are x V B Vᵀ with B = Zᵀ (S Sᵀ + λI)^-1 Z, over 1 − diag(V B Vᵀ)."""
    z, v = factors.z.astype(np.float64), factors.v
    gram = z @ gram_of(v) @ z.T
    scale = n_rows / np.trace(gram)
    inner = scale * z.T @ scipy.linalg.solve(scale * gram + lam * np.eye(len(z)), z, assume_a="pos")
    inner = inner.astype(np.float32)
    share = 1.0 - np.einsum("ir,ir->i", v @ inner, v)  # λ diag(P)

    def begin(histories: Interactions) -> BlockScores:
        coordinates = (histories.to_csr() @ v) @ inner
        return lambda first, last: coordinates @ v[first:last].T / share[first:last]

    return BlockScorer(begin)


def _search(
    grid: Sequence[float], make: Callable[[float], BlockScorer], users: RealUsers, metric: str
) -> tuple[Selection, Validated]:
    def try_value(value: float) -> tuple[Validated, Validated]:
        validated = users.validated(make(value), metric, "distill_cf")
        return validated, validated

    return select("lam", metric, grid, try_value)
