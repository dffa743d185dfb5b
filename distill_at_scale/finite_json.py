"""The only JSON writer: NaN and infinities become null, since JSON cannot represent them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(content: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Returns strictly valid JSON.

    Raises:
        TypeError: A value cannot be represented in JSON.
    """
    return json.dumps(_finite(content), indent=indent, sort_keys=sort_keys, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
