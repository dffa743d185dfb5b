"""What the ``manifest.json`` of a SyntheticDataset says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.manifest import NAME, SYNTHETIC_FORMAT
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError
from distill_at_scale.models.selection import Selection


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParentRecord(_Record):
    """The dataset that was distilled."""

    uri: str
    fingerprint: str
    item_space: str
    n_users: int
    n_rows: int
    """Its train rows, distinct pairs of user and item."""


class SequencesRecord(_Record):
    """What latent sequences are, and how a student is trained on them."""

    length: int
    """ξ, places of a sequence"""
    width: int
    """d, width of a position."""
    coupled: bool
    """Whether the token after a place is its target; else each place has a target of its own."""
    student: str
    """The model that they were made for."""
    settings: dict[str, Any]
    """Settings of that model and its training, as validated; the defaults of a fit."""
    shuffled: bool
    """Whether the student takes them in random orders, else in turn."""
    metric: str
    """The validation metric."""
    start: float
    """Its value for students trained on the sequences before anything was learned."""
    exact: float
    """Its value for students trained on the best sequences, as learned."""
    stored: float
    """Its value for students trained on the stored sequences, with 8 bits per number."""


class SyntheticManifest(_Record):
    """Everything about a SyntheticDataset but its numbers."""

    format: Literal["distill_at_scale/synthetic"] = "distill_at_scale/synthetic"
    version: Literal[1, 2] = 2
    """1 had no checksum of itself, and is read without"""
    kind: Literal["rows", "sequences"]
    """Rows: users × items; sequences: latent sequences and a decoder."""
    method: str
    """distill_cf, sketch or farzi"""
    family: str
    """Kind of the rows or sequences, and its family."""
    config: dict[str, Any]
    """All settings of the method."""
    parent: ParentRecord
    n_users: int = Field(ge=1)
    """Synthetic users, or sequences."""
    n_items: int = Field(ge=1)
    sequences: SequencesRecord | None = None
    """Record of sequences; None for rows."""
    curve: list[dict[str, float]] = Field(default_factory=list)
    """Validations on the way: step, metric, and λ of rows."""
    chosen: dict[str, Selection] = Field(default_factory=dict)
    """Settings of models, chosen on the parent's validation rows."""
    settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    """What a fit takes of them, by model."""
    cost: dict[str, float] = Field(default_factory=dict)
    """cpu_s, wall_s and peak_mib of distilling; of sequences also teachers_cpu_s, a part of cpu_s"""
    data: FileRecord
    items: FileRecord
    made_with: dict[str, str]
    """Versions of the software that made it."""

    def contradiction(self) -> str | None:
        """What in the manifest cannot be true beside the rest of it, as a clause; None where nothing is."""
        if (self.kind == "sequences") != (self.sequences is not None):
            return f"it says kind {self.kind}, but {'no ' if self.sequences is None else ''}sequences are described"
        if self.data.path == self.items.path:
            return f"{self.data.path} is listed twice"
        return None


def is_synthetic(uri: str) -> bool:
    """Whether a synthetic dataset, and no plain one, lies at ``uri``."""
    file = storage.join(uri, NAME)
    try:
        raw = storage.read_bytes(file)
    except FileNotFoundError:
        return False
    try:
        found, _ = recorded.parse_json(raw, file, "")
    except DamagedFileError:
        # Whoever opens it says what is wrong with it.
        return SYNTHETIC_FORMAT.encode() in raw
    return found.get("format") == SYNTHETIC_FORMAT
