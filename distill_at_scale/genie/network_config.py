"""Settings of Data-Genie's networks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class NetworkConfig(BaseModel):
    """Settings of both networks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=64, ge=1)
    embedding: int = Field(default=8, ge=1)
    """Width of a method's embedding."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    steps: int = Field(default=150, ge=1)
    """Number of full-batch training steps."""
    rate: float = Field(default=1e-2, gt=0)
    decay: float = Field(default=1e-2, ge=0)
    """Weight decay, decoupled (AdamW)."""
    seed: int = Field(default=0, ge=0)
