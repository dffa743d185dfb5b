"""Numbers from outside for rows of a dataset, such as scores or propensities."""

from __future__ import annotations

from distill_at_scale.data.row_values.dealt import DealtValues
from distill_at_scale.data.row_values.files import ValueFiles
from distill_at_scale.data.row_values.joined import RowValues, ValueSource, read_values

__all__ = ["DealtValues", "RowValues", "ValueFiles", "ValueSource", "read_values"]
