"""What a distiller returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from distill_at_scale.distillation.farzi.latent import LatentSequences
    from distill_at_scale.distillation.privacy.settings import PrivacyRecord
    from distill_at_scale.models.selection import Selection
    from distill_at_scale.models.synthetic_rows import RowValues


@dataclass(frozen=True)
class Distilled:
    """Result of a distiller, the same on every worker.

    Attributes:
        data: Rows, float32 [n, n_items] or in factors, or latent sequences.
        family: Kind of rows or sequences, for readers.
        n_rows: Number of distinct train rows that were distilled, over all workers.
        n_filled: Number of users who have them; None: not known.
        learned: Rows from which a later distillation goes on, float32 [n, n_items], where simpler ones are the result.
        copied: Share of what a real user's own rows can be read from: of rows, those that equal a user's train rows;
            of sequences, the places whose most likely item is that of the real history; None: not known.
        cpu_s: CPU-seconds, over all workers.
        curve: Validations during the run: step, metric, and further numbers.
        chosen: Selections, on the validation rows, of the settings of models that can be fitted on the result.
        settings: The selected settings, by model; they are the defaults of a fit.
        sequences: Record of sequences, a :class:`~distill_at_scale.distillation.synthetic_manifest.SequencesRecord`.
        costs: Parts of ``cpu_s`` by name, such as ``teachers_cpu_s``.
        winner: Name of the contender whose rows these are, if several were compared.
        contenders: Validation metric by contender and model.
        notes: Remarks on the result, as sentences.
        privacy: What a private result guarantees; nothing else that is exact about the log may then be written.
        item_counts: With ``privacy``, int64 [n_items], train counts with noise.
    """

    data: RowValues | LatentSequences
    family: str
    n_rows: int
    cpu_s: float
    curve: list[dict[str, float]] = field(default_factory=list)
    chosen: Mapping[str, Selection] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sequences: Mapping[str, Any] | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    winner: str | None = None
    contenders: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    privacy: PrivacyRecord | None = None
    item_counts: np.ndarray | None = None
    n_filled: int | None = None
    learned: np.ndarray | None = None
    copied: float | None = None
