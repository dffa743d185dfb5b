"""The ``manifest.json`` of a SyntheticDataset."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.manifest import NAME, SYNTHETIC_FORMAT
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.distillation.privacy.settings import PrivacyRecord
from distill_at_scale.errors import DamagedFileError, StorageError
from distill_at_scale.models.selection import Selection


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParentRecord(_Record):
    """The dataset that was distilled."""

    uri: str
    fingerprint: str
    """Checksum of the dataset; empty in a private result, since it would tell whether a user is in the dataset."""
    item_space: str
    n_users: int
    n_rows: int
    """Number of train rows, as distinct pairs of user and item; estimated with noise in a private result."""
    n_filled: int | None = None
    """Number of users who have these rows; None if not known, as in a private result."""
    forgotten: int = 0
    """Number of users that `das forget` had removed from the dataset."""

    @property
    def rows_a_user(self) -> float:
        """Train rows of a user on average, of those who have some."""
        return self.n_rows / (self.n_filled or self.n_users)


class EarlierRecord(_Record):
    """The earlier result that a distillation started from."""

    uri: str
    sha256: str
    """Checksum of its rows or sequences."""


class SequencesRecord(_Record):
    """Format of latent sequences, and how a student is trained on them."""

    length: int
    """ξ, positions of a sequence."""
    width: int
    """d, width of a position."""
    coupled: bool
    """Whether the next token is a position's target; else each position has its own target."""
    student: str
    """Name of the model that was trained on them."""
    settings: dict[str, Any]
    """Settings of that model and its training in validation; the defaults of a fit."""
    shuffled: bool
    """Whether the student uses them in random orders, else in turn."""
    metric: str
    """Validation metric."""
    start: float
    """Validation metric of students trained on the initial sequences."""
    exact: float
    """Validation metric of students trained on the best sequences in float32."""
    stored: float
    """Validation metric of students trained on the stored sequences, in the bits in which they are stored."""


class SyntheticManifest(_Record):
    """Metadata of a SyntheticDataset."""

    format: Literal["distill_at_scale/synthetic"] = "distill_at_scale/synthetic"
    version: Literal[1, 2, 3] = 2
    """Version 1 has no checksum of the manifest, and is read without one. Version 3 has sequences in a form that
    version 2 does not know: with inputs that are items, or in fewer than 8 bits per number."""
    kind: Literal["rows", "sequences"]
    """Rows: users × items; sequences: latent sequences and a decoder."""
    method: str
    """distill_cf, sketch or farzi"""
    family: str
    """Kind of the rows or sequences, and its family."""
    config: dict[str, Any]
    """All settings of the method."""
    parent: ParentRecord
    earlier: EarlierRecord | None = None
    """Earlier result that it was started from; None for a distillation from scratch."""
    n_users: int = Field(ge=1)
    """Number of synthetic users or sequences."""
    n_items: int = Field(ge=1)
    rank: int | None = Field(default=None, ge=1)
    """Rank of rows that are stored as two factors; None for others."""
    sequences: SequencesRecord | None = None
    """Record of sequences; None for rows."""
    curve: list[dict[str, float]] = Field(default_factory=list)
    """Validations during the run: step, metric, and λ for rows."""
    chosen: dict[str, Selection] = Field(default_factory=dict)
    """Selections of the models' settings on the parent's validation rows."""
    settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    """The selected settings, by model; the defaults of a fit."""
    winner: str | None = None
    """Contender whose rows these are: distilled, sketch or most active users; None if nothing was compared."""
    contenders: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Validation metric by contender and model; all users is the full model, start the initial rows."""
    notes: list[str] = Field(default_factory=list)
    """Remarks on the result, as sentences."""
    copied: float | None = Field(default=None, ge=0, le=1)
    """Share of the rows that equal a real user's train rows, or of the sequences' places whose most likely item is that
    of the real history they started from; None if not known."""
    privacy: PrivacyRecord | None = None
    """What a private result guarantees; None: nothing bounds what the rows reveal of a user."""
    learned: FileRecord | None = None
    """Learned rows from which `das distill --from` goes on, where simpler ones are the result; None: the result."""
    cost: dict[str, float] = Field(default_factory=dict)
    """cpu_s, wall_s and peak_mib of the distillation; for sequences also teachers_cpu_s, a part of cpu_s."""
    data: FileRecord
    items: FileRecord
    made_with: dict[str, str]
    """Versions of the software that made it."""

    def contradiction(self) -> str | None:
        """Returns a contradiction between fields of the manifest as a clause; None if there is none."""
        if (self.kind == "sequences") != (self.sequences is not None):
            return f"it says kind {self.kind}, but {'no ' if self.sequences is None else ''}sequences are described"
        if self.data.path == self.items.path:
            return f"{self.data.path} is listed twice"
        return None


def is_synthetic(uri: str) -> bool:
    """Returns whether ``uri`` holds a synthetic dataset."""
    file = storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except (FileNotFoundError, StorageError):
        # Opening it as a dataset reports what is there instead, such as a file.
        return False
    try:
        found, _ = recorded.parse_json(raw, file, "")
    except DamagedFileError:
        # Opening it reports the damage.
        return SYNTHETIC_FORMAT.encode() in raw
    return found.get("format") == SYNTHETIC_FORMAT
