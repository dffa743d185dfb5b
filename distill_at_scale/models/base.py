"""The contract of all recommenders: fit, score, save, load, and the memory needed for a fit.

A saved model is a folder with ``weights.safetensors`` (arrays) and ``model.json`` (everything else). The latter is
written last, so a folder without it is not a model. Nothing is unpickled.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions, weights_problem
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores
from distill_at_scale.models.inputs import FitRows, FitSource, Rows, fit_rows_of
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.recommendations import Recommends
from distill_at_scale.models.selection import Progress, Selection
from distill_at_scale.models.stored import Stored
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.registry import MODELS
from distill_at_scale.signatures import settings_section, signature_of
from distill_at_scale.validation import PlainWords, explain

Precision = Literal["auto", "float32", "float64"]


class ModelConfig(BaseModel):
    """Base of all models' settings: unknown settings are errors, and ``None`` means "select it on validation rows"."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Recommender(Recommends, Stored):
    """Base class of recommenders, which map users' histories to a score for every item.

    Subclasses define ``name``, ``Config``, ``memory_hint`` and the underscored methods. The public methods validate
    inputs and outputs in the same way for every model. Scores of items in the history are meaningless: rankings mask
    them.

    Attributes:
        config: Settings of the model.
        n_items: Number of items it was fitted on, None before a fit.
        item_space: Fingerprint of the item numbering, None if not given.
        item_ids: Own id of each item number (Int64 or String) after a fit in memory on data with ids, else None; not
            saved, since the dataset has it.
        selection: Record of the selection of a hyper-parameter on validation rows, None if none was selected.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    memory_hint: ClassVar[str] = "fit it on a sample, or on a machine with more memory"
    """Remedy for insufficient memory, as the end of a sentence."""
    by_gradients: ClassVar[bool] = False
    """Whether the model is trained step by step (a TorchRecommender), on any number of workers."""
    by_passes: ClassVar[bool] = False
    """Whether the model is fitted in closed form by passes over the rows (a StreamedRecommender), on any number of
    workers."""
    joins_shards: ClassVar[bool] = False
    """Whether shards of few users are read together, since a step takes a batch of users, however few, and its time
    hardly depends on their number."""
    solvers: ClassVar[tuple[str, ...]] = ()
    """Solvers of its setting ``solver``, some of which stream the rows on several workers; none for most models. A
    model that has them extends :class:`~distill_at_scale.models.infinite_ae.InfiniteAE`."""
    by_blocks: ClassVar[bool] = False
    """Whether the scores of a block of items are computed alone, so that ranking needs no memory for users × items."""
    numbers_users: ClassVar[bool] = False
    """Whether what it knows of a user is found by the user's number, which another dataset gives to somebody else."""
    personal: ClassVar[bool] = True
    """Whether the ranking of a user depends on the history, except that its items are left out."""
    grid_in_one: ClassVar[bool] = False
    """Whether one fit serves all values of its grid, so that nothing is saved by trying fewer of them."""
    learns_from_rows: ClassVar[bool] = False
    """Whether :meth:`fit_rows` works, so that real-valued rows of synthetic users can replace a log."""
    learns_from_sequences: ClassVar[bool] = False
    """Whether latent sequences can replace a log, because the model has the form of a student."""

    config: ModelConfig
    item_space: str | None
    selection: Selection | None

    def __init__(self, config: ModelConfig | None = None, **settings: Any) -> None:
        """Takes a config, or its fields as keywords.

        Raises:
            SettingError: A setting is unknown or invalid.
        """
        self.config = config if config is not None else self.parse_config(settings)
        self.n_items = None
        self.item_space = None
        self.item_ids = None
        self.selection = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        # Completion and help show the model's settings instead of "**settings".
        if "Config" in vars(cls):
            cls.__signature__ = signature_of(cls.Config)  # type: ignore[attr-defined]
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nArgs:\n{settings_section(cls.Config)}"

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.config.model_dump(exclude_unset=True).items())
        state = "not fitted" if self.n_items is None else f"fitted on {self.n_items:,} items"
        return f"<{type(self).__name__}({given}), {state}>"

    def as_settings(self) -> dict[str, Any]:
        """What the verb `fit` takes that is given this model: its name and the settings that were given."""
        given = self.config.model_dump(mode="json", exclude_unset=True)
        return {"model": MODELS.spec_of(type(self)) or self.name, **({"set": given} if given else {})}

    @classmethod
    def parse_config(cls, settings: Mapping[str, Any]) -> Any:
        """Builds the model's ``Config`` from plain settings.

        Raises:
            SettingError: Names the invalid fields, the problem with each, and the known fields.
        """
        try:
            return cls.Config(**settings)
        except ValidationError as error:
            raise SettingError(explain(error, cls.Config, PlainWords(cls.name))) from error

    @classmethod
    @abstractmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        """Returns the peak bytes for fitting ``n_users`` users, of whose rows ``n_rows`` are held at a time."""

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        """Returns what the time of a fit on ``n_rows`` train rows grows with, in a unit of the model's own."""
        return float(n_rows) * getattr(config, "epochs", 1)

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        """Estimates the bytes of a saved model."""
        return 4 * n_items

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        """Returns the most rows that one of several workers holds at a time, for :meth:`memory_needed`: all, unless the
        model streams them.

        Args:
            dataset: Dataset to fit on.
            workers: Number of workers.
            config: Settings of the model; None: the defaults.
        """
        return dataset.n_rows

    @classmethod
    def check_memory(cls, n_users: int, n_items: int, n_rows: int, config: Any, available: int | None = None) -> None:
        """Rejects a fit that would run out of memory.

        Args:
            n_users, n_items, n_rows, config: As in :meth:`memory_needed`.
            available: Bytes available (default: what this process can still allocate).

        Raises:
            NotEnoughMemoryError: States the bytes needed and available, and the remedy.
        """
        what = f"{cls.name} on {n_users:,} users and {n_items:,} items"
        require_memory(what, cls.memory_needed(n_users, n_items, n_rows, config), available, cls.memory_hint)

    def fit(
        self,
        data: Rows | FitSource,
        validation: Rows | None = None,
        progress: Progress | None = None,
        *,
        item_space: str | None = None,
        user: str | None = None,
        item: str | None = None,
        rating: str | None = None,
        time: str | None = None,
        split: str | None = None,
    ) -> Self:
        """Fits users' rows in this process; selects open settings on the validation rows.

            das.models.Ease(lam=400).fit(frame, user="visitor", item="sku")

        A fit on a Dataset gives bit for bit what the verb `fit` gives with one worker and as many threads
        (OMP_NUM_THREADS): the order of sums in matrix products depends on the number of threads.

        Args:
            data: A Dataset, a SciPy sparse matrix (users × items), a frame with a row per interaction (polars, pandas,
                Arrow …), Interactions, or a SyntheticDataset.
            validation: Held-out rows of the same users, if ``data`` is a matrix, a frame or Interactions. A Dataset has
                its own, and so does a frame with a split column.
            progress: Function called with the share done and the step.
            item_space: Fingerprint of the item numbering of Interactions or a matrix, stored and compared at every
                load.
            user, item, rating, time, split: Columns of a frame (default: well-known names such as user_id).

        Raises:
            SettingError: Data of another kind, or a frame without these columns.
            DasError: No rows, other users in ``validation``, no validation rows to select on, or not enough memory.
        """
        if isinstance(data, Interactions) and (validation is None or isinstance(validation, Interactions)):
            return self._fit_checked(FitRows(data, validation, item_space), progress)
        if isinstance(data, Dataset) and validation is None:
            # Checked before the rows are read, since reading them may already exceed the memory.
            self.check_memory(data.n_users, data.n_items, self.rows_held(data, config=self.config), self.config)
            self._fit_dataset(data, progress)
            return self
        if isinstance(data, FitSource):
            data.fit_into(self, progress)
            return self
        given = dict(zip(Columns.LOG, (user, item, rating, time, split)))
        rows = fit_rows_of(data, validation, given)
        return self._fit_checked(rows if rows.item_space else replace(rows, item_space=item_space), progress)

    def _fit_dataset(self, dataset: Dataset, progress: Progress | None) -> None:
        """Fits a Dataset, whose rows fit into memory."""
        self._fit_checked(fit_rows_of(dataset, weights=self.uses_weights), progress)

    def _fit_checked(self, rows: FitRows, progress: Progress | None) -> Self:
        train, validation = rows.train, rows.validation
        if not train.n_rows:
            raise DasError(f"{self.name}: the dataset has no train rows.")
        if validation is not None:
            if validation.n_items != train.n_items or not np.array_equal(validation.users, train.users):
                raise DasError(f"{self.name}: train and validation rows are not of the same users and items.")
            if not validation.n_rows:
                validation = None
        if train.weights is not None:
            if problem := weights_problem(train.weights):
                raise DasError(f"{self.name}: {problem}.")
            if not self.uses_weights:
                train = replace(train, weights=None)
        self.check_memory(len(train), train.n_items, train.n_rows, self.config)
        self.selection = None
        self._fit(train, validation, progress)
        self.n_items = train.n_items
        self.item_space, self.item_ids = rows.item_space, rows.item_ids
        if progress:
            progress(1.0, "fitted")
        return self

    def fit_rows(self, rows: SyntheticRows, progress: Progress | None = None) -> Self:
        """Fits distilled users; open settings take the values selected during distillation.

        Raises:
            DasError: The model cannot learn from rows, a setting was not selected, or memory is insufficient.
        """
        self.refuse_rows()
        what = f"{self.name} on {len(rows):,} users and {rows.n_items:,} items"
        require_memory(what, self.rows_memory(rows, self.config), None, self.memory_hint)
        self.selection = None
        self._fit_rows(rows, progress)
        self.n_items, self.item_space = rows.n_items, rows.item_space
        if progress:
            progress(1.0, "fitted")
        return self

    @classmethod
    def rows_memory(cls, rows: SyntheticRows, config: Any) -> int:
        """Returns the peak bytes of :meth:`fit_rows`."""
        return cls.memory_needed(len(rows), rows.n_items, len(rows) * rows.n_items, config)

    @classmethod
    def refuse_rows(cls) -> None:
        """Checks that the model can learn from synthetic users.

        Raises:
            DasError: It cannot; the message names the models that can.
        """
        if not cls.learns_from_rows:
            able = ", ".join(sorted(name for name, model in MODELS.items() if model.learns_from_rows))
            raise DasError(f"{cls.name} cannot learn from real-valued rows of synthetic users; those that can: {able}.")

    @property
    def uses_weights(self) -> bool:
        """Whether a fit counts train rows by their weights, where a sample has them: models whose setting ``weights``
        is on do; those without that setting ignore weights."""
        return bool(getattr(self.config, "weights", False))

    @property
    def predicts_ratings(self) -> bool:
        """Whether a score predicts the user's rating (explicit feedback)."""
        return False

    def score(self, histories: Interactions) -> np.ndarray:
        """Scores all items for some users, whether known to the model or new.

        Args:
            histories: The users' input rows; a user may have none.

        Returns:
            float32 [b, n_items]; larger is better.

        Raises:
            DasError: The model is not fitted, or the histories have another number of items.
        """
        self._check_histories(histories)
        return np.ascontiguousarray(self._score(histories), dtype=np.float32)

    def score_blocks(self, histories: Interactions) -> BlockScores:
        """Scores some users by blocks of items, as :meth:`score` does.

        Args:
            histories: As in :meth:`score`.

        Returns:
            Function from first and last to the scores of items first … last − 1, float32 [b, last − first]. If
            :attr:`by_blocks`, its memory does not grow with the number of items.

        Raises:
            DasError: As :meth:`score`.
        """
        self._check_histories(histories)
        scores = self._block_scores(histories)
        return lambda first, last: np.ascontiguousarray(scores(first, last), dtype=np.float32)

    def forget_users(self) -> None:
        """Treats all users as new from now on, whom histories describe; for data in which users have other numbers."""

    @property
    def scorer(self) -> BlockScorer:
        """The model for the ranking of users: by blocks of items if :attr:`by_blocks`, else by whole rows."""
        return BlockScorer(self.score_blocks) if self.by_blocks else BlockScorer.whole(self.score)

    def _check_histories(self, histories: Interactions) -> None:
        if self.n_items is None:
            raise DasError(f"{self.name} has not been fitted; call fit or load a saved model.")
        if histories.n_items != self.n_items:
            raise DasError(
                f"{self.name} was fitted on {self.n_items:,} items, but the histories have "
                f"{histories.n_items:,}; use the dataset that it was fitted on."
            )

    def check_item_space(self, n_items: int, item_space: str | None) -> None:
        """Checks that the dataset's item numbering is that of the fit.

        Raises:
            DasError: The size or the fingerprint differs.
        """
        if n_items != self.n_items:
            raise DasError(
                f"{self.name} was fitted on {self.n_items} items, the dataset has {n_items:,}; fit it again."
            )
        if item_space and self.item_space and item_space != self.item_space:
            raise DasError(
                f"{self.name} was fitted on another item numbering ({self.item_space}) than the dataset's "
                f"({item_space}); fit it again on this dataset."
            )

    def _validation_or_refuse(self, validation: Interactions | None, parameter: str) -> Interactions:
        """Returns the validation rows, which are required because ``parameter`` is open."""
        if validation is None:
            raise DasError(
                f"{self.name}: {parameter} is to be selected on validation rows, but there are none; "
                f"set it (for example --set {parameter}=…) or use a dataset with a validation split."
            )
        return validation

    @abstractmethod
    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        """Fits the model; ``train`` has rows, ``validation`` has rows or is None."""

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        """Fits synthetic users; required if :attr:`learns_from_rows`."""
        raise NotImplementedError

    @abstractmethod
    def _score(self, histories: Interactions) -> np.ndarray:
        """Returns scores [b, n_items] of any float type."""

    def _block_scores(self, histories: Interactions) -> BlockScores:
        """Returns a function from first and last to scores [b, last − first]; a model that is :attr:`by_blocks`
        computes these alone."""
        scores = self._score(histories)
        return lambda first, last: scores[:, first:last]
