"""SVP-CF: what a small proxy model finds hard is kept."""

from __future__ import annotations

from typing import Literal

Proxy = Literal["bias", "mf"]
"""the models that can be asked"""
# What is asked of rows in sequential use is what is asked of implicit feedback.
Objective = Literal["explicit", "implicit"]
"""what makes a row hard: the squared error of its rating, or its rank among items not seen"""
