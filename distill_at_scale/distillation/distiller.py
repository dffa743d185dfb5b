"""The contract of all distillers, and the interface of the job that runs one.

A distiller is a class: its settings, its kind of result, the unit of its budget, and one worker's part of the run. No
other code compares names of distillers: the verbs `distill`, `sweep` and `recommend` query the class.

A distiller's module is also imported by processes that only query it; import torch inside :meth:`Distiller.run`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, ValidationError

from distill_at_scale.distillation.distilled import Distilled as Distilled
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.uris import redact
from distill_at_scale.validation import PlainWords, explain

if TYPE_CHECKING:
    import torch

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.distillation.synthetic_manifest import SyntheticManifest
    from distill_at_scale.models.selection import Progress
    from distill_at_scale.models.training.communicator import Communicator
    from distill_at_scale.models.training.torch_model import TorchRecommender
    from distill_at_scale.models.training.trainer import Trainer

SIZES = {"rows": "users", "sequences": "sequences"}
"""Kind of result -> the setting of its size, which is an option of `das distill` and the unit of a budget."""


class Job(Protocol):
    """Environment of a distiller on one worker.

    Attributes:
        dataset: Dataset to distill.
        communicator: Connection to the other workers.
        device: Device for the computation.
        on_progress: Called with the share done and a description of the step; shown for the first worker.
        checkpoint_every: Number of steps between checkpoints.
        work: Folder or storage URI for files that must survive a killed run; removed after the result is written.
        shared: Folder or storage URI for full-data models that other runs on the same dataset can reuse, or None.
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
        """Returns the newest checkpoint in a folder below :attr:`work`, the same on all workers; all must call this."""

    def keep(self, step: int, content: bytes, folder: str = "") -> None:
        """Writes a checkpoint in the background; does nothing on workers other than the first."""

    def report(self, figures: Mapping[str, float]) -> None:
        """Shows figures of the run, such as a validation metric, where the run is watched; all must call
        this."""

    def wait(self) -> None:
        """Waits until all checkpoints are written.

        Raises:
            DasError: A checkpoint could not be written.
        """

    def train(
        self,
        model: TorchRecommender,
        folder: str,
        on_progress: Progress,
        after_epoch: Callable[[Trainer], None] | None = None,
    ) -> Trainer:
        """Trains a model on the whole log on this worker only, with checkpoints in a folder below :attr:`work`."""


class Loop(Protocol):
    """A training loop that a hyper-parameter search can observe."""

    @property
    def points(self) -> Sequence[Any]:
        """Validations so far; each has a ``metric``."""

    def run(self, progress: Progress | None = None, after_step: Callable[[], None] | None = None) -> None:
        """Trains to the end."""


class Distiller(ABC):
    """A method that turns a dataset into a few synthetic users or sequences.

    Subclasses define ``name``, ``Config``, ``makes`` and the abstract methods. ``Config`` is a pydantic model with
    defaults and docstrings; it has the fields ``seed``, ``metric`` and the size: ``users`` or ``sequences``.

    Attributes:
        config: Settings, an instance of ``Config``.
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    makes: ClassVar[Literal["rows", "sequences"]]
    options: ClassVar[tuple[str, ...]] = ()
    """Settings, beside the size, that are options of `das distill`; the others are set with --set."""
    by_time: ClassVar[bool] = False
    """Whether it needs timestamps."""
    shares_teachers: ClassVar[bool] = False
    """Whether it trains full-data models that runs at other budgets can reuse (:attr:`Job.shared`)."""
    continues: ClassVar[bool] = False
    """Whether it can start from an earlier result (:attr:`earlier`)."""
    checkpoints: ClassVar[bool] = True
    """Whether it writes checkpoints (:meth:`Job.keep`)."""
    memory_hint: ClassVar[str] = "set fewer users, or more workers"
    """Remedy for too little memory, as the end of a sentence."""
    warm_model: ClassVar[str] = "infinite_ae"
    """Model of the warm-up fit that loads libraries before costs are measured."""

    config: Any
    earlier: SyntheticDataset | None = None
    """Result to start from."""

    def __init__(self, config: BaseModel) -> None:
        self.config = config

    @classmethod
    def create(cls, settings: Mapping[str, Any], name: str | None = None) -> Self:
        """Creates a distiller from plain settings.

        Args:
            settings: Fields of ``Config``.
            name: Name in messages; default: its own name.

        Raises:
            SettingError: Settings are unknown or wrong; the message names all of them.
        """
        try:
            return cls(cls.Config.model_validate(dict(settings)))
        except ValidationError as error:
            raise SettingError(explain(error, cls.Config, PlainWords(name or cls.name))) from None

    @classmethod
    def lacks(cls) -> list[str]:
        """Returns what the class lacks: required fields of ``Config``, and methods that a search of settings calls."""
        known = cls.Config.model_fields
        missing = [f"Config.{name}" for name in (cls.size(), "seed", "metric") if name not in known]
        if cls.searched is not Distiller.searched:
            own = {"rounds": cls.rounds is not Distiller.rounds, "trial": cls.trial is not Distiller.trial}
            missing += [f"{name} (which searched needs)" for name, there in own.items() if not there]
        return missing

    # -- the budget ---------------------------------------------------------------------------------------

    @classmethod
    def size(cls) -> str:
        """Returns the name of the size setting, ``users`` or ``sequences``; also the unit of a budget."""
        return SIZES[cls.makes]

    @classmethod
    def number(cls, budget: float, n_users: int) -> int:
        """Converts a budget, a share of the dataset's users, to a number of users or sequences."""
        return max(1, round(budget * n_users))

    @classmethod
    def bytes_of(cls, number: int, n_items: int) -> float | None:
        """Estimates the stored bytes of this many users or sequences; None if unknown beforehand."""
        return 4.0 * number * n_items if cls.makes == "rows" else None

    def numbers(self, n_users: int) -> list[int]:
        """Returns the numbers of users or sequences that a run on ``n_users`` users makes: the given one, or those of
        which it keeps the best. A class that selects one itself overrides this; else plans suppose a row a user."""
        given = getattr(self.config, self.size())
        return [n_users if given is None else given]

    def planned_steps(self, number: int) -> int:
        """Returns the most steps of a run into this many users or sequences; 1 without steps."""
        return getattr(self.config, "steps", None) or 1

    def planned_width(self, n_items: int) -> int:
        """Returns how many numbers a step learns for a row of this many items: fewer where rows are factors."""
        return n_items

    @classmethod
    def for_workers(cls, workers: int) -> dict[str, Any]:
        """Returns defaults that depend on the number of workers. A run that is resumed with another number of workers
        keeps the initial ones."""
        return {}

    @classmethod
    def settings_after(cls, earlier: SyntheticManifest) -> dict[str, Any]:
        """Returns the settings of a run that starts from an earlier result, for those that set nothing else."""
        return {**earlier.config, cls.size(): earlier.n_users}

    # -- before a run -------------------------------------------------------------------------------------

    def check(self, dataset: Dataset, workers: int) -> None:
        """Refuses impossible requests before any work is done.

        Raises:
            DasError: The dataset lacks required data, or there are too many workers.
        """
        place, size = redact(dataset.uri), self.size()
        wanted = getattr(self.config, size)
        if wanted is not None and wanted > dataset.n_users:
            raise DasError(f"--{size} {wanted:,} is more than the {dataset.n_users:,} users of {place}; set fewer.")
        if self.by_time and not dataset.manifest.has_timestamps:
            raise DasError(f"{self.name} needs timestamps, but {place} has none; prepare the log with its timestamps.")

    @abstractmethod
    def memory(self, dataset: Dataset, workers: int) -> int:
        """Returns the peak bytes of each worker."""

    # -- the run ------------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, job: Job) -> Distilled:
        """Runs one worker's part; all workers return the same result.

        The result must depend only on the settings and the dataset, not on the number of workers or on restarts.

        Raises:
            DasError: There is too little data for that many users or sequences, or the loss became NaN.
        """

    # -- hyper-parameter search ---------------------------------------------------------------------------

    def searched(self) -> dict[str, float]:
        """Returns the settings that a sweep can search, with their defaults; empty for most distillers.

        A class that names some must define :meth:`rounds` and :meth:`trial` too.
        """
        return {}

    def rounds(self) -> int:
        """Returns the number of validations of a trial that is not stopped early."""
        raise NotImplementedError

    def trial(self, dataset: Dataset) -> Loop:
        """Returns the training loop of one trial, for one CPU."""
        raise NotImplementedError
