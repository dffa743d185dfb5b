"""SVP-CF: keeps the rows or users that a small proxy model finds hardest."""

from __future__ import annotations

from typing import Literal

Proxy = Literal["bias", "mf"]
"""Proxy models of SVP-CF."""
# Rows for sequential use are scored like implicit feedback.
Objective = Literal["explicit", "implicit"]
"""Definition of a hard row: by the squared error of its rating, or by its rank among unseen items."""
