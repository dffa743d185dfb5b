"""What `das inspect` shows."""

from __future__ import annotations

from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.facts import byte_size
from distill_at_scale.report.console import show_dataset
from distill_at_scale.report.layout import facts, show


def show_inspected(found: Dataset | Any) -> None:
    """Prints a Dataset; of a SyntheticDataset size, origin, settings and remarks."""
    if isinstance(found, Dataset):
        show_dataset(found)
        return
    m = found.manifest
    chosen = {model: ", ".join(f"{name} {value:g}" for name, value in of.items()) for model, of in m.settings.items()}
    known = [
        ("method", f"{m.method}, {m.family} {m.kind}"),
        ("users" if m.kind == "rows" else "sequences", f"{m.n_users:,} instead of {m.parent.n_users:,} users"),
        ("items", f"{m.n_items:,}"),
        ("size", byte_size(m.data.bytes + m.items.bytes)),
        *(("settings", f"{model}: {text}") for model, text in chosen.items() if m.kind == "rows"),
        *([("winner", m.winner)] if m.winner else []),
        *([("privacy", m.privacy.sentence)] if m.privacy else []),
        ("parent", f"{m.parent.uri} ({m.parent.fingerprint or 'private'})"),
        *([("forgotten", f"{m.parent.forgotten:,} users of the log before")] if m.parent.forgotten else []),
        *([("started from", m.earlier.uri)] if m.earlier else []),
    ]
    show(facts(storage.redact(found.uri), known), *(f"Beware: {note}" for note in m.notes))
