"""The contract of all recommenders: fit, score, save, load, and knowing how much memory that takes.

A saved model is a folder: ``weights.safetensors`` (numbers) and ``model.json`` (everything else), the latter
written last, so that a folder without it is no model. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, ClassVar, Literal, Self

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models.inputs import FitRows, FitSource, Rows, fit_rows_of
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.recommendations import Recommends
from distill_at_scale.models.saved import (
    FIX,
    FORMAT,
    MODEL_FILE,
    WEIGHTS_FILE,
    read_description,
    read_weights,
)
from distill_at_scale.models.selection import Progress, Selection
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.registry import MODELS
from distill_at_scale.signatures import settings_section, signature_of
from distill_at_scale.validation import PlainWords, explain

Precision = Literal["auto", "float32", "float64"]


class ModelConfig(BaseModel):
    """Base of all models' settings: unknown ones are errors, and ``None`` means "choose it on validation"."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Recommender(Recommends):
    """From users' histories to a score for every item.

    Subclasses give ``name``, ``Config``, ``instead`` and the underscored methods; the public ones here check
    what goes in and comes out, the same for every model. Scores of items already in the history carry no
    meaning: rankings mask them.

    Attributes:
        config: the settings it was made with.
        n_items: size of the item space it was fitted on, None before.
        item_space: fingerprint of that item space (which number is which item), None where none was given.
        item_ids: own id of each item number (Int64 or String) where it was fitted in memory on data with ids, else
            None; it is not saved, for the dataset has it.
        selection: how a hyper-parameter was chosen on validation, None where nothing was to choose.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    instead: ClassVar[str] = "fit it on a sample, or on a machine with more memory"
    """What to do where memory does not suffice; the end of a sentence."""
    by_gradients: ClassVar[bool] = False
    """Whether it is trained step by step (a TorchRecommender), on as many workers as asked for."""
    solvers: ClassVar[tuple[str, ...]] = ()
    """Ways to solve it (its setting ``solver``), some of them on several workers that stream the rows; none for most. A
    model that has them extends :class:`~distill_at_scale.models.infinite_ae.InfiniteAE`."""
    learns_from_rows: ClassVar[bool] = False
    """Whether :meth:`fit_rows` works: whether real-valued rows of synthetic users can take the place of a log."""
    learns_from_sequences: ClassVar[bool] = False
    """Whether latent sequences can take the place of a log: whether it has the form of a student."""

    config: ModelConfig
    item_space: str | None
    selection: Selection | None

    def __init__(self, config: ModelConfig | None = None, **settings: Any) -> None:
        """Takes a config, or its fields as keywords.

        Raises:
            SettingError: for an unknown or invalid setting.
        """
        self.config = config if config is not None else self.parse_config(settings)
        self.n_items = None
        self.item_space = None
        self.item_ids = None
        self.selection = None

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        # Completion and help show the settings of this model, not "**settings".
        if "Config" in vars(cls):
            cls.__signature__ = signature_of(cls.Config)  # type: ignore[attr-defined]
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nArgs:\n{settings_section(cls.Config)}"

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.config.model_dump(exclude_unset=True).items())
        state = "not fitted" if self.n_items is None else f"fitted on {self.n_items:,} items"
        return f"<{type(self).__name__}({given}), {state}>"

    @classmethod
    def parse_config(cls, settings: Mapping[str, Any]) -> Any:
        """The model's ``Config`` from plain settings.

        Raises:
            SettingError: naming the fields, what is wrong with each, and the fields there are.
        """
        try:
            return cls.Config(**settings)
        except ValidationError as error:
            raise SettingError(explain(error, cls.Config, PlainWords(cls.name))) from error

    @classmethod
    @abstractmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        """Bytes at the peak of fitting ``n_rows`` rows of ``n_users`` users, beyond the rows themselves."""

    @classmethod
    def check_memory(cls, n_users: int, n_items: int, n_rows: int, config: Any, available: int | None = None) -> None:
        """Refuses a fit that would run out of memory.

        Args:
            n_users, n_items, n_rows, config: as in :meth:`memory_needed`.
            available: bytes; by default what this process can still take.

        Raises:
            DasError: saying how much is needed, how much is there, and what to do instead.
        """
        what = f"{cls.name} on {n_users:,} users and {n_items:,} items"
        require_memory(what, cls.memory_needed(n_users, n_items, n_rows, config), available, cls.instead)

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
        """Learns from users' rows in this process; chooses what the settings leave open on the validation rows.

            das.models.Ease(lam=400).fit(frame, user="visitor", item="sku")

        Fitted on a Dataset, the model is bit for bit what the verb `fit` makes of it with one worker that has as many
        threads (OMP_NUM_THREADS): matrix products add up in another order on another number of them.

        Args:
            data: a Dataset, a SciPy sparse matrix (users × items), a frame with a row for each interaction (polars,
                pandas, Arrow …), Interactions, or a SyntheticDataset.
            validation: held-out rows of the same users, where ``data`` is a matrix, a frame or Interactions. A Dataset
                holds its own; so does a frame with a split column.
            progress: told the share done and the step.
            item_space: fingerprint of the item numbering of Interactions or a matrix, kept and compared at every load.
            user, item, rating, time, split: columns of a frame; by default found by well-known names, as user_id.

        Raises:
            SettingError: data of another kind, or a frame without these columns.
            DasError: no rows, other users in ``validation``, nothing to choose on, not enough memory.
        """
        if isinstance(data, Interactions) and (validation is None or isinstance(validation, Interactions)):
            return self._fit_checked(FitRows(data, validation, item_space), progress)
        if isinstance(data, Dataset) and validation is None:
            # Before the rows are read, not after: reading them may be what memory does not suffice for.
            self.check_memory(data.n_users, data.n_items, data.n_rows, self.config)
            self._fit_dataset(data, progress)
            return self
        if isinstance(data, FitSource):
            data.fit_into(self, progress)
            return self
        given = dict(zip(Columns.LOG, (user, item, rating, time, split)))
        rows = fit_rows_of(data, validation, given)
        return self._fit_checked(rows if rows.item_space else replace(rows, item_space=item_space), progress)

    def _fit_dataset(self, dataset: Dataset, progress: Progress | None) -> None:
        """Fits on a Dataset, whose rows fit into memory."""
        self._fit_checked(fit_rows_of(dataset), progress)

    def _fit_checked(self, rows: FitRows, progress: Progress | None) -> Self:
        train, validation = rows.train, rows.validation
        if not train.n_rows:
            raise DasError(f"{self.name}: there are no train rows to fit.")
        if validation is not None:
            if validation.n_items != train.n_items or not np.array_equal(validation.users, train.users):
                raise DasError(f"{self.name}: train and validation rows are not of the same users and items.")
            if not validation.n_rows:
                validation = None
        self.check_memory(len(train), train.n_items, train.n_rows, self.config)
        self.selection = None
        self._fit(train, validation, progress)
        self.n_items = train.n_items
        self.item_space, self.item_ids = rows.item_space, rows.item_ids
        if progress:
            progress(1.0, "fitted")
        return self

    def fit_rows(self, rows: SyntheticRows, progress: Progress | None = None) -> Self:
        """Learns from distilled users; what the config leaves open was chosen when they were distilled.

        Raises:
            DasError: the model cannot; it needs a setting that nobody chose; not enough memory.
        """
        self.refuse_rows()
        self.check_memory(len(rows), rows.n_items, rows.values.size, self.config)
        self.selection = None
        self._fit_rows(rows, progress)
        self.n_items, self.item_space = rows.n_items, rows.item_space
        if progress:
            progress(1.0, "fitted")
        return self

    @classmethod
    def refuse_rows(cls) -> None:
        """Makes sure that the model learns from synthetic users.

        Raises:
            DasError: it does not; naming those that do.
        """
        if not cls.learns_from_rows:
            able = ", ".join(sorted(name for name, model in MODELS.items() if model.learns_from_rows))
            raise DasError(f"{cls.name} cannot learn from real-valued rows of synthetic users; those that can: {able}.")

    @property
    def predicts_ratings(self) -> bool:
        """Whether a score is the rating that the user would give (explicit feedback)."""
        return False

    def score(self, histories: Interactions) -> np.ndarray:
        """Scores of all items for some users, known to the model or new.

        Args:
            histories: the users' input rows; a user may have none.

        Returns:
            float32 [b, n_items]; larger is better.

        Raises:
            DasError: before a fit, or for histories over another item space.
        """
        if self.n_items is None:
            raise DasError(f"{self.name} has not been fitted; call fit or load a saved model.")
        if histories.n_items != self.n_items:
            raise DasError(
                f"{self.name} was fitted on {self.n_items:,} items, but the histories have "
                f"{histories.n_items:,}; use the dataset that it was fitted on."
            )
        return np.ascontiguousarray(self._score(histories), dtype=np.float32)

    def check_item_space(self, n_items: int, item_space: str | None) -> None:
        """Makes sure that item numbers mean here what they meant at the fit.

        Raises:
            DasError: when size or fingerprint differ.
        """
        if n_items != self.n_items:
            raise DasError(f"{self.name} was fitted on {self.n_items} items, the dataset has {n_items:,}; fit it anew.")
        if item_space and self.item_space and item_space != self.item_space:
            raise DasError(
                f"{self.name} was fitted on another item numbering ({self.item_space}) than the dataset's "
                f"({item_space}); fit it anew on this dataset."
            )

    def save(self, uri: str) -> None:
        """Writes the model to a folder on any storage, replacing a model that is there.

        Raises:
            DasError: before a fit, or when the storage fails.
        """
        if self.n_items is None:
            raise DasError(f"{self.name} has not been fitted, so there is nothing to save.")
        spec = MODELS.spec_of(type(self))
        weights = {key: np.ascontiguousarray(value) for key, value in self._weights().items()}
        content = safetensors.numpy.save(weights)
        described = {
            "format": FORMAT,
            "model": self.name,
            **({} if spec is None else {"class": spec}),
            "config": self.config.model_dump(mode="json"),
            "n_items": self.n_items,
            "item_space": self.item_space,
            "selection": None if self.selection is None else self.selection.model_dump(mode="json"),
            "weights": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()},
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("numpy", "scipy", "torch")},
            },
        }
        # The old description goes first: a kill in between must not leave it beside new weights.
        storage.remove(storage.join(uri, MODEL_FILE))
        storage.write_bytes(storage.join(uri, WEIGHTS_FILE), content)
        recorded.write_json(storage.join(uri, MODEL_FILE), described)

    @classmethod
    def load(cls, uri: str) -> Self:
        """Reads a model that :meth:`save` wrote.

        Raises:
            DasError: no model there, another model.
            DamagedFileError: damaged or altered files, or a format of another release.
        """
        described = read_description(uri)
        place = storage.redact(uri)
        if described.get("model") != cls.name:
            raise DasError(f"{place}: holds a model '{described.get('model')}', not '{cls.name}'.")
        content = read_weights(uri, described)
        with recorded.parsing(storage.join(uri, MODEL_FILE), FIX):
            selection, item_space = described["selection"], described["item_space"]
            n_items = int(described["n_items"])
            config = cls.Config(**described["config"])
            chosen = None if selection is None else Selection.model_validate(selection)
        model = cls(config)
        model.n_items, model.item_space, model.selection = n_items, item_space, chosen
        with recorded.parsing(storage.join(uri, WEIGHTS_FILE), FIX):
            model._set_weights(safetensors.numpy.load(content.to_pybytes()), n_items)
        return model

    def _validation_or_refuse(self, validation: Interactions | None, parameter: str) -> Interactions:
        """The validation rows, needed because ``parameter`` is left open."""
        if validation is None:
            raise DasError(
                f"{self.name}: {parameter} is to be chosen on validation rows, but there are none; "
                f"set it (for example --set {parameter}=…) or use a dataset with a validation split."
            )
        return validation

    @abstractmethod
    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        """Fits; ``train`` has rows, ``validation`` has rows or is None."""

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        """Fits on synthetic users, where :attr:`learns_from_rows`."""
        raise NotImplementedError

    @abstractmethod
    def _score(self, histories: Interactions) -> np.ndarray:
        """Scores [b, n_items] of any float type."""

    @abstractmethod
    def _weights(self) -> dict[str, np.ndarray]:
        """What scoring needs, by name."""

    @abstractmethod
    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        """Takes back what :meth:`_weights` gave; raises KeyError or ValueError where it does not fit."""
