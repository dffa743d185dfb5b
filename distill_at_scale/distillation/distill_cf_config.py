"""Settings of Distill-CF."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from distill_at_scale.distillation.privacy.settings import Privacy
from distill_at_scale.evaluation.metric_names import RankingMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig

MOST_LEARNED = 1_000_000
"""Most numbers of an items' factor that is learned by default: 4 MB that workers sum at every step."""
MOST_REAL_ROWS = 50_000_000
"""Train rows that are learned from by default: 1.2 GB while they are read. 200 steps of 512 users visit 100,000 users
at most, so a larger log has more users than are visited unless histories are longer than 500 rows."""
OVERSAMPLE = 16
"""Directions beyond the rank in the singular value decomposition of the real users' rows."""
SIZES = (100, 500, 20)
"""Numbers of synthetic users that are tried, in this order, if none is set; without validation rows the first."""


class DistillCFConfig(ModelConfig):
    """Settings of Distill-CF."""

    users: int | None = Field(default=None, ge=1)
    """μ, number of synthetic users; None: the best of 20, 100 and 500 on validation."""
    rows: Literal["free", "unit", "binary", "gumbel", "softmax"] = "free"
    """Row parametrisation: free (any real numbers), unit (in [0, 1]), binary (0 or 1); the paper's: gumbel (drawn),
    softmax (their mean for large τ)."""
    rank: int | None = Field(default=None, ge=1)
    """Rank r: rows are learned and stored as a product of two factors, users × r and r × items, for catalogues whose
    rows do not fit into memory; None: rows of all items. (On ml-1m 500 rows of rank 128 and 64 give ndcg@10 34.51 and
    33.64, rows of all items 34.57.)"""
    vectors: Literal["learned", "fixed"] | None = None
    """Items' factor of rows with a rank: learned, or fixed to the singular vectors of the log, so that no step touches
    all items; None: learned while items × rank is at most 1,000,000. (On ml-1m, rank 128: ndcg@10 34.51 and 33.42.)"""
    init: Literal["random", "kmeans", "sketch"] | None = None
    """Initialisation: random users, centroids of k-means, or the closed-form sketch; None: the sketch for free rows,
    else random users. (From the sketch 100 free rows reach ndcg@10 34.3 on ml-1m in 270 steps, from random users 34.2
    in 700; on amazon-ratings 3.9 and 3.2 in 150 steps, cut to three train rows a user 2.3 and 1.2.)"""
    steps: int | None = Field(default=None, ge=1)
    """Number of steps; None: 200 for 500 users from the sketch and 300 from others, more for fewer users."""
    batch_size: int = Field(default=512, ge=1)
    """Real users per step, over all workers."""
    hide: float | None = Field(default=None, ge=0, lt=1)
    """Share of a user's items that is hidden and must be predicted, at least one and not all; None: 0.5, in the
    paper's family 0. (On ml-1m with 500 free rows 0.3, 0.4, 0.5, 0.6 give validation ndcg@10 0.2413, 0.2428, 0.2436,
    0.2432, hr@100 0.580, 0.586, 0.594, 0.591.)"""
    single_rows: Literal["left_out", "hidden"] = "left_out"
    """Users with a single train row: left_out (their row is not learned from), hidden (it is a target
    without any input)."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of Adam; None: 0.106 times the root mean square of the real users' entries (0.02 on ml-1m), for
    binary rows 0.02, in the paper's family 0.04."""
    warm_up: int = Field(default=10, ge=0)
    """Number of warm-up steps; then the rate falls to 0 along a cosine."""
    lam: float | None = Field(default=None, gt=0)
    """Initial λ, which is learned; None: selected on validation rows for the initial rows, in the paper's family 1."""
    temperature: float = Field(default=10.0, gt=0)
    """τ, temperature of the paper's family."""
    draws: int = Field(default=200, ge=1)
    """S, number of draws of the paper's family."""
    sparsity: float = Field(default=1e-3, ge=0)
    """ρ, weight of the rows' sums in the paper's family."""
    metric: RankingMetric = PRIMARY
    """Validation metric by which the best state and λ are selected."""
    validate_every: int = Field(default=25, ge=1)
    """Steps between validations."""
    patience: int | None = Field(default=None, ge=1)
    """Number of steps without a better validation metric after which training stops; None: runs to the end."""
    privacy: dict[str, float] | None = None
    """Differential privacy for each user: epsilon, and delta, clip, batch_size (expected users of a step), start (share
    of epsilon for the start); None: none. Steps are fixed (100 by default), rows have a rank (32), and nothing is
    validated."""
    validation_users: int = Field(default=6000, ge=1)
    """Maximum number of users, drawn by hash, on whom the metric is measured."""
    real_rows: int = Field(default=MOST_REAL_ROWS, ge=1)
    """Maximum number of the log's train rows that are learned from; beyond it as many users as have them are drawn by
    hash. With privacy all users are."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""

    @model_validator(mode="after")
    def _rank_of_free_rows(self) -> Self:
        if self.rank is not None and self.rows != "free":
            raise ValueError(f"rank is for free rows, not for rows={self.rows}; leave one of them out")
        if self.vectors is not None and self.rank is None:
            raise ValueError("vectors is for rows with a rank; set rank, or leave it out")
        return self

    @field_validator("privacy")
    @classmethod
    def _of_known_names(cls, given: dict[str, float] | None) -> dict[str, float] | None:
        if given is not None:
            Privacy.of(given)
        return given

    @model_validator(mode="after")
    def _private_rows(self) -> Self:
        if self.privacy is not None:
            open_ = {"rows": self.rows != "free", "init": self.init is not None, "vectors": self.vectors == "learned"}
            open_ |= {"hide": self.hide == 0, "single_rows": self.single_rows == "hidden"}
            open_["patience"] = self.patience is not None
            if given := [name for name, wrong in open_.items() if wrong]:
                raise ValueError(f"privacy has its own start, rows and end; leave {', '.join(given)} out")
        return self

    @property
    def private(self) -> Privacy | None:
        """ε, δ and how they are spent; None without privacy."""
        return None if self.privacy is None else Privacy.of(self.privacy)

    def learns_vectors(self, n_items: int) -> bool:
        """Whether the items' factor is learned; see :attr:`vectors`."""
        if self.vectors is not None or self.rank is None:
            return self.vectors == "learned"
        return self.rank * n_items <= MOST_LEARNED

    def numbers(self, n_users: int, validated: bool = True) -> list[int]:
        """Numbers of synthetic users to try on a log of this many users, or the given one; without validation rows
        only one is tried."""
        if self.users is not None:
            return [self.users]
        most = max(1, n_users // 2)
        if not validated:
            return [min(SIZES[0], most)]
        return [number for number in SIZES if number <= most] or [most]

    @property
    def is_of_the_paper(self) -> bool:
        """Whether rows and loss are the paper's: sums of softmax draws, and the likelihood of all items."""
        return self.rows in ("gumbel", "softmax")

    @property
    def initialisation(self) -> Literal["random", "kmeans", "sketch"]:
        """Initialisation, as set or by default of the rows."""
        return self.init or ("sketch" if self.rows == "free" else "random")

    @property
    def hidden(self) -> float:
        """Share of hidden items, as set or the family's default."""
        return self.hide if self.hide is not None else (0.0 if self.is_of_the_paper else 0.5)

    @property
    def rate(self) -> float:
        """Learning rate of Adam, as set or the family's default."""
        return self.learning_rate or (0.04 if self.is_of_the_paper else 0.02)
