"""The contract of all distillers, and what the code that runs one passes to it.

A distiller is a class: its settings, what it makes, the unit of its budget, and one worker's part of the run. Nothing
else knows any distiller by its name: the verbs `distill`, `sweep` and `recommend` ask the class.

A distiller's file is imported by processes that only ask; what needs torch is imported in :meth:`Distiller.run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ValidationError

from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.uris import redact
from distill_at_scale.validation import PlainWords, explain

if TYPE_CHECKING:
    import numpy as np
    import torch

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.farzi.latent import LatentSequences
    from distill_at_scale.models.selection import Progress, Selection
    from distill_at_scale.models.training.communicator import Communicator
    from distill_at_scale.models.training.torch_model import TorchRecommender
    from distill_at_scale.models.training.trainer import Trainer

SIZES = {"rows": "users", "sequences": "sequences"}
"""What is made -> the setting that says how many, which is an option of `das distill` and the unit of a budget."""


@dataclass(frozen=True)
class Distilled:
    """What a distiller made, the same on every worker.

    Attributes:
        data: rows, float32 [n, n_items], or latent sequences.
        family: which kind of rows or sequences, for readers.
        n_rows: distinct train rows that it was made of, over all workers.
        cpu_s: CPU-seconds, over all workers.
        curve: validations on the way: step, metric, and whatever else is a number.
        chosen: Settings, selected on the validation rows, of the models that can be fitted on it.
        settings: what a fit takes of them, by model.
        sequences: Record of sequences, a :class:`~distill_at_scale.distillation.synthetic_manifest.SequencesRecord`.
        costs: parts of ``cpu_s`` by name, as ``teachers_cpu_s``.
    """

    data: np.ndarray | LatentSequences
    family: str
    n_rows: int
    cpu_s: float
    curve: list[dict[str, float]] = field(default_factory=list)
    chosen: Mapping[str, Selection] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sequences: Mapping[str, Any] | None = None
    costs: Mapping[str, float] = field(default_factory=dict)


class Job(Protocol):
    """One worker's surroundings while a distiller runs.

    Attributes:
        dataset: what is distilled.
        communicator: reaches the other workers.
        device: to compute on.
        on_progress: told the share done and the step; shown for the first worker.
        checkpoint_every: steps between checkpoints.
        work: folder or storage URI for what must outlive a death; removed when the result is written.
        shared: folder or storage URI for full-data models that other runs on the same dataset can use, if there is one.
    """

    @property
    def dataset(self) -> Dataset: ...
    @property
    def communicator(self) -> Communicator: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def on_progress(self) -> Progress: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def work(self) -> str: ...
    @property
    def shared(self) -> str | None: ...

    def newest(self, folder: str = "") -> bytes | None:
        """The newest checkpoint in a folder below :attr:`work`, the same for all workers, who must all call this."""

    def keep(self, step: int, content: bytes, folder: str = "") -> None:
        """Writes a checkpoint in the background, if this is the first worker."""

    def wait(self) -> None:
        """Returns when all checkpoints are written.

        Raises:
            DasError: when one could not be.
        """

    def train(
        self,
        model: TorchRecommender,
        folder: str,
        on_progress: Progress,
        after_epoch: Callable[[Trainer], None] | None = None,
    ) -> Trainer:
        """Trains a model on the whole log on this worker alone, with checkpoints in a folder below :attr:`work`."""


class Loop(Protocol):
    """A training that a search of settings follows."""

    @property
    def points(self) -> Sequence[Any]:
        """Validations so far, each with its ``metric``."""

    def run(self, progress: Progress | None = None, after_step: Callable[[], None] | None = None) -> None:
        """Trains to the end."""


class Distiller(ABC):
    """A way of making a few synthetic users or sequences of a dataset.

    Subclasses give ``name``, ``Config`` and ``makes``, and the abstract methods. ``Config`` is a pydantic model with
    defaults and docstrings; it has ``seed``, ``metric`` and the size: ``users``, or ``sequences``.

    Attributes:
        config: the settings.
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    makes: ClassVar[Literal["rows", "sequences"]]
    options: ClassVar[tuple[str, ...]] = ()
    """Settings beside the size that are options of `das distill`; others are given by --set."""
    by_time: ClassVar[bool] = False
    """Whether it needs timestamps."""
    shares_teachers: ClassVar[bool] = False
    """Whether it trains full-data models that runs at other budgets can use (:attr:`Job.shared`)."""
    memory_hint: ClassVar[str] = "set fewer users, or more workers"
    """What to do where memory does not suffice; the end of a sentence."""
    warm_model: ClassVar[str] = "infinite_ae"
    """A tiny fit of this model loads what a run computes with, before its costs are counted."""

    config: Any

    def __init__(self, config: BaseModel) -> None:
        self.config = config

    @classmethod
    def create(cls, settings: Mapping[str, Any], name: str | None = None) -> Self:
        """A distiller of plain settings.

        Args:
            settings: fields of ``Config``.
            name: how messages call it; by default its own name.

        Raises:
            SettingError: naming all that is unknown or wrong.
        """
        try:
            return cls(cls.Config.model_validate(dict(settings)))
        except ValidationError as error:
            raise SettingError(explain(error, cls.Config, PlainWords(name or cls.name))) from None

    @classmethod
    def lacks(cls) -> list[str]:
        """Fields that ``Config`` must have and has not."""
        known = cls.Config.model_fields
        return [f"Config.{name}" for name in (cls.size(), "seed", "metric") if name not in known]

    # -- the budget ---------------------------------------------------------------------------------------

    @classmethod
    def size(cls) -> str:
        """The setting that says how much is made, ``users`` or ``sequences``; also the unit of a budget."""
        return SIZES[cls.makes]

    @classmethod
    def number(cls, budget: float, n_users: int) -> int:
        """How many users or sequences a budget is, which is a share of the dataset's users."""
        return max(1, round(budget * n_users))

    @classmethod
    def bytes_of(cls, number: int, n_items: int) -> float | None:
        """Estimates the bytes of this many users or sequences; None if unknown beforehand."""
        return 4.0 * number * n_items if cls.makes == "rows" else None

    @classmethod
    def for_workers(cls, workers: int) -> dict[str, Any]:
        """Settings that follow from the number of workers where they are not set. A run that goes on with another
        number of workers keeps those that it was begun with."""
        return {}

    # -- before a run -------------------------------------------------------------------------------------

    def check(self, dataset: Dataset, workers: int) -> None:
        """Refuses what cannot be, before any work is done.

        Raises:
            DasError: the dataset lacks something, or there are too many workers.
        """
        place, size = redact(dataset.uri), self.size()
        wanted = getattr(self.config, size)
        if wanted > dataset.n_users:
            raise DasError(f"--{size} {wanted:,} is more than the {dataset.n_users:,} users of {place}; set fewer.")
        if self.by_time and not dataset.manifest.has_timestamps:
            raise DasError(f"{self.name} goes by time, but {place} has no timestamps; prepare the log with its times.")

    @abstractmethod
    def memory(self, dataset: Dataset, workers: int) -> int:
        """Returns the peak bytes of each worker."""

    # -- the run ------------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, job: Job) -> Distilled:
        """One worker's part; all workers return the same numbers.

        The result may depend on the settings and the dataset alone: not on the number of workers, nor on deaths on
        the way.

        Raises:
            DasError: more users or sequences than there is data for, a loss that is NaN.
        """

    # -- a search of its settings -------------------------------------------------------------------------

    def searched(self) -> dict[str, float]:
        """Settings that a sweep can search, with their values where nothing else is set; none for most."""
        return {}

    def rounds(self) -> int:
        """Validations of a trial that is not stopped."""
        raise NotImplementedError

    def trial(self, dataset: Dataset) -> Loop:
        """What a trial of a search runs, on one CPU."""
        raise NotImplementedError
