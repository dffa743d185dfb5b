"""Books of shared vectors: an item's vector is the sum of one of each book, and a soft token a distribution per book.

For a distribution Y over items, the expected item vector is Y E = Σ_b Y_b S_b, where S_b are the vectors of book b and
Y_b the distribution of the items' codes in it. So these distributions are all that a student needs of Y, and neither a
token nor a student's table has the size of the catalogue.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from distill_at_scale.distillation import soft_tokens


@dataclass(frozen=True)
class Books:
    """Codes of all items.

    Attributes:
        codes: int [n_items, books], which vector of each book.
        size: Number of vectors of a book.
    """

    codes: torch.Tensor
    size: int

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.codes)

    @property
    def n_books(self) -> int:
        """Number of books."""
        return self.codes.shape[1]

    def vectors(self, shared: torch.Tensor, items: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the vectors [..., dim] of items int64 [...], or of all items, from those of the books,
        [books × size, dim]."""
        codes = self.codes.to(shared.device)
        chosen = codes if items is None else codes[items]
        # Book by book: a vector of each book for every item would take more memory than their sum. Unlike
        # embedding_bag, embedding has a second derivative.
        parts = (F.embedding(chosen[..., k].long(), shared[self._book(k)]) for k in range(self.n_books))
        total = next(parts)
        for part in parts:
            total = total + part
        return total

    def distributions(self, logits: torch.Tensor) -> torch.Tensor:
        """Returns the softmax of each book's logits, [..., books × size]."""
        return logits.unflatten(-1, (self.n_books, self.size)).softmax(dim=-1).flatten(-2)

    def marginals(self, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """Returns the distributions over each book of items drawn from softmax(h Eᵀ), [n, books × size].

        Takes time in proportion to positions × items, in chunks of positions.

        Args:
            states: h, [n, dim].
            table: E, [n_items, dim].
        """
        found = states.new_zeros(len(states), self.n_books * self.size)
        for some in soft_tokens.chunks(len(states), self.n_items, states.itemsize):
            shares = (states[some] @ table.T).softmax(dim=1)
            for k in range(self.n_books):
                found[some, self._book(k)] = found[some, self._book(k)].index_add(1, self.codes[:, k].long(), shares)
        return found

    def over_items(self, distributions: torch.Tensor) -> torch.Tensor:
        """Returns the distribution over items [..., n_items] in proportion to the product of their codes' shares."""
        logs = distributions.clamp(min=torch.finfo(distributions.dtype).tiny).log()
        total = logs.new_zeros(*logs.shape[:-1], self.n_items)
        for k in range(self.n_books):
            total += logs[..., self._book(k)][..., self.codes[:, k].long()]
        return total.softmax(dim=-1)

    def digest(self) -> str:
        """Returns a checksum of the codes."""
        return hashlib.sha256(self.codes.cpu().to(torch.int32).numpy().tobytes()).hexdigest()[:16]

    def to(self, device: torch.device) -> Books:
        """Copies the codes to a device."""
        return Books(self.codes.to(device), self.size)

    def _book(self, k: int) -> slice:
        return slice(k * self.size, (k + 1) * self.size)
