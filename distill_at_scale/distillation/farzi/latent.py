"""Latent sequences: the result of Farzi, on which students are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.books import Books
from distill_at_scale.distillation.soft_tokens import SoftTokens


@dataclass(frozen=True)
class LatentSequences:
    """μ sequences of ξ soft tokens, X = softmax(D M / τ).

    In coupled sequences (the paper's), the next token is a position's target. Decoupled ones have a separate latent
    vector for the target of each position, decoded by the same M; their inputs may also be items, which are fixed.
    With books of shared vectors, X has a distribution for each book in place of one over items; inputs are then items.

    Attributes:
        inputs: D, float [μ, ξ, d], or items, int64 [μ, ξ].
        decoder: M, float [d, V]; with books [d, books × book_size].
        targets: Targets of decoupled sequences, in the form of ``inputs``; None for coupled ones.
        temperature: τ.
        log_rates: float [k], logarithms of the factors by which a student's learning rate is multiplied in each of k
            equal parts of its training; None if rates were not learned.
        bits: Mean bits of a number when stored; see :func:`~distill_at_scale.distillation.farzi.quantise`.
        books: Codes of the items in books of shared vectors, or None.
    """

    inputs: torch.Tensor
    decoder: torch.Tensor
    targets: torch.Tensor | None = None
    temperature: float = 1.0
    log_rates: torch.Tensor | None = None
    bits: float = 8.0
    books: Books | None = None

    def __len__(self) -> int:
        """μ."""
        return len(self.inputs)

    @property
    def n_items(self) -> int:
        """V."""
        return self.decoder.shape[1] if self.books is None else self.books.n_items

    @property
    def items(self) -> torch.Tensor | None:
        """The inputs, if they are items, int64 [μ, ξ]."""
        return None if self.inputs.is_floating_point() else self.inputs

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Learned tensors: D unless the inputs are items, M and, if present, the targets' latent vectors and the log
        rates."""
        inputs = self.inputs if self.items is None else None
        return [x for x in (inputs, self.decoder, self.targets, self.log_rates) if x is not None]

    @property
    def n_numbers(self) -> int:
        """Total number of values; 4 bytes each in float32."""
        return sum(tensor.numel() for tensor in self.tensors)

    def with_tensors(self, tensors: list[torch.Tensor]) -> LatentSequences:
        """Returns a copy with other tensors, in the order of :attr:`tensors`."""
        rest = list(tensors)
        # Items go where the learned tensors are.
        inputs = rest.pop(0) if self.items is None else self.items.to(rest[0].device)
        decoder = rest.pop(0)
        targets = None if self.targets is None else rest.pop(0)
        log_rates = None if self.log_rates is None else rest.pop(0)
        books = None if self.books is None else self.books.to(decoder.device)
        return replace(self, inputs=inputs, decoder=decoder, targets=targets, log_rates=log_rates, books=books)

    def tokens(self, rows: torch.Tensor) -> tuple[torch.Tensor | SoftTokens, torch.Tensor | SoftTokens]:
        """Returns (inputs, targets), float [b, w, V], of the sequences ``rows`` int64 [b]; w = ξ, for coupled ones ξ −
        1.

        They are dense up to 50,000 items, above that stored as latent vectors and M. Inputs that are items are int64
        [b, w]; with books, targets are dense, [b, w, books × book_size].
        """
        x = self.inputs[rows]
        if self.targets is not None:
            return x if self.items is not None else self._soft(x), self._soft(self.targets[rows])
        if self.n_items > soft_tokens.CHUNKED_ABOVE:
            return self._soft(x[:, :-1]), self._soft(x[:, 1:])
        dense = self._soft(x)
        return dense[:, :-1], dense[:, 1:]

    def distributions(self, row: int) -> torch.Tensor:
        """Returns the distributions over items of a sequence, float [w + 1, V]: of its inputs, and of the target of its
        last position."""
        inputs, targets = (part[0] for part in self.tokens(torch.tensor([row])))
        if self.items is not None:
            inputs = F.one_hot(inputs, self.n_items).to(targets)
        last = targets[-1:] if self.books is None else self.books.over_items(targets[-1:])
        return torch.cat((inputs, last))

    def _soft(self, latent: torch.Tensor) -> torch.Tensor | SoftTokens:
        if self.books is not None:
            return self.books.distributions(latent / self.temperature @ self.decoder)
        held = SoftTokens(latent / self.temperature, self.decoder)
        return held if self.n_items > soft_tokens.CHUNKED_ABOVE else held[:]
