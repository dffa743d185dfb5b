"""Records of finished parts: frozen dataclasses in memory, JSON on storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter


@dataclass(frozen=True)
class PartRecord:
    """What is known of a finished part of a stage; of a part whose files say everything, only that it is finished.

    Subclasses are frozen dataclasses. Their fields, in order, are those of the JSON object; nested records and Pydantic
    models become objects, and tuples become arrays.
    """

    reused: bool = field(default=False, kw_only=True)
    """Whether an earlier run had finished the part; not stored."""

    def to_json(self) -> dict[str, Any]:
        """Returns the record as it is stored."""
        stored: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json", exclude={"reused"})
        return stored

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Returns the record that :meth:`to_json` stored.

        Raises:
            pydantic.ValidationError: A field is missing or of another type.
        """
        record: Self = _adapter(cls).validate_python(content)
        return record


_adapters: dict[type[PartRecord], TypeAdapter[Any]] = {}


def _adapter(kind: type[PartRecord]) -> TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]
