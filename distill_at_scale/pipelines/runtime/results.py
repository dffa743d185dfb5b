"""What verbs return, as people see it in a console or a notebook: a line that says what it is, and a table."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from distill_at_scale.registry import FIGURES

if TYPE_CHECKING:
    import polars as pl


class Figures(BaseModel):
    """A part of a result: figures that belong together, which do not change."""

    model_config = ConfigDict(frozen=True)


class Result(BaseModel):
    """A result with a table. Its fields are what `--json` prints."""

    def to_frame(self) -> pl.DataFrame:
        """The figures as a table."""
        raise NotImplementedError

    def headline(self) -> str:
        """What this is, in a line."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.headline()}\n{self.to_frame()}"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        figure = FIGURES[type(self).__name__](self).decode() if type(self).__name__ in FIGURES else ""
        told = f"<b>{type(self).__name__}</b>: {html.escape(self.headline())}"
        return f"<div><p>{told}</p>{self.to_frame()._repr_html_()}{figure}</div>"
