"""Item vectors of models: one per item, or sums of a few shared ones, so that a large catalogue takes little memory.

A composed vector is the sum of one vector from each of several books; a code says which. The kinds differ only in the
codes:

- ``codes``: residual k-means of the items' singular vectors, so that items of the same users share vectors (Petrov,
  Macdonald, "RecJPQ: training large-catalogue sequential recommenders", WSDM 2024, whose codes are by quantiles).
- ``hash``: independent hashes of the item (Svenstrup et al., "Hash embeddings for efficient word representations",
  NIPS 2017, without importance weights).
- ``quotient``: the digits of the item's number, so that no two items have the same code (Shi et al., "Compositional
  embeddings using complementary partitions", KDD 2020, with sums).

Frequent items may have a vector of their own in addition, as in MGQE (Kang et al., "Learning multi-granular quantized
embeddings for large-vocab categorical features in recommender systems", WWW 2020).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from distill_at_scale.data import hashing
from distill_at_scale.models.base import ModelConfig
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.item_codes import residual_codes
from distill_at_scale.models.training.item_svd import singular_item_vectors
from distill_at_scale.models.training.sources import Source

_SVD_DIM = 32


class ItemTableConfig(ModelConfig):
    """Settings of the models with an item table."""

    items: Literal["own", "codes", "hash", "quotient"] = "own"
    """Item vectors: own, one per item; or sums of shared vectors, chosen by codes (residual k-means of the items'
    singular vectors), hash (of the item), or quotient (digits of the item's number)."""
    books: int = Field(default=4, ge=1)
    """Number of shared vectors that are summed (codes, hash); quotient takes as many digits as the items need."""
    book_size: int = Field(default=256, ge=2)
    """Number of vectors to choose each of them from."""
    own_items: int = Field(default=1000, ge=0)
    """Number of most frequent items that have a vector of their own besides the sum (not with items=own)."""


def n_books(n_items: int, config: ItemTableConfig) -> int:
    """Returns the number of vectors of which an item's is the sum."""
    if config.items != "quotient":
        return config.books
    digits = 1
    while config.book_size**digits < n_items:
        digits += 1
    return digits


def table_numbers(n_items: int, dim: int, config: ItemTableConfig, own_columns: int = 0) -> int:
    """Returns the number of parameters of a table [n_items, dim]; arguments as for :class:`ComposedItems`."""
    if config.items == "own":
        return n_items * dim
    shared = n_books(n_items, config) * config.book_size + min(config.own_items, n_items)
    return shared * (dim - own_columns) + own_columns * n_items


def table_bytes(n_items: int, config: ItemTableConfig) -> int:
    """Returns the bytes that a table takes besides its parameters: codes, and what they are computed from."""
    if config.items == "own":
        return 0
    # The module's codes and two copies: the best so far and a checkpoint's. Singular vectors with sums, and residuals.
    return 3 * code_bytes(n_items, config) + (4 * 3 * _SVD_DIM * n_items if config.items == "codes" else 8 * n_items)


def code_bytes(n_items: int, config: ItemTableConfig) -> int:
    """Returns the bytes of the items' codes, as they are saved with the parameters."""
    return 0 if config.items == "own" else n_books(n_items, config) * _width(config) * n_items


class OwnItems(nn.Embedding):
    """A vector per item, [n_items + 1, dim]; the last is that of the padding and stays 0."""

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__(n_items + 1, dim, padding_idx=n_items)

    def vectors(self, first: int, last: int) -> torch.Tensor:
        """Returns the vectors of items first … last − 1."""
        return self.weight[first:last]


class ComposedItems(nn.Module):
    """Vectors that are sums of shared ones, [n_items, dim]; that of the padding, item n_items, is 0.

    Attributes:
        shared: float [books × book_size, dim − own_columns], the vectors of all books.
        codes: uint8 or int32 [n_items, books], which of each book's.
        own: float [own_items, dim − own_columns], what frequent items have in addition, from 0 on.
        own_items: int64 [own_items], these items, ascending.
        columns: float [n_items, own_columns], last columns, which each item has of its own, such as a bias.
    """

    def __init__(self, n_items: int, dim: int, config: ItemTableConfig, std: float, own_columns: int = 0) -> None:
        """``std`` is the standard deviation of a vector's numbers at the start."""
        super().__init__()
        books, width = n_books(n_items, config), dim - own_columns
        self.n_items, self.embedding_dim, self.config = n_items, dim, config
        self.shared = nn.Parameter(torch.randn(books * config.book_size, width) * (std / books**0.5))
        self.own = nn.Parameter(torch.zeros(min(config.own_items, n_items), width))
        self.columns = nn.Parameter(torch.zeros(n_items, own_columns))
        self.codes: torch.Tensor
        self.own_items: torch.Tensor
        self.register_buffer("codes", torch.zeros(n_items, books, dtype=_TYPES[_width(config)]))
        self.register_buffer("own_items", torch.arange(len(self.own)))

    @property
    def device(self) -> torch.device:
        """Where the vectors lie."""
        return self.shared.device

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Returns the vectors [..., dim] of items int64 [...]."""
        flat = items.flatten()
        real = flat < self.n_items
        flat = torch.where(real, flat, 0)
        books = self.codes.shape[1]
        first = torch.arange(books, device=flat.device) * self.config.book_size
        found = F.embedding_bag(self.codes[flat].long() + first, self.shared, mode="sum")
        if len(self.own):
            place = torch.searchsorted(self.own_items, flat).clamp(max=len(self.own) - 1)
            found = found + F.embedding(place, self.own) * (self.own_items[place] == flat)[:, None]
        if self.columns.shape[1]:
            found = torch.cat((found, F.embedding(flat, self.columns)), dim=1)
        return (found * real[:, None]).view(*items.shape, self.embedding_dim)

    def vectors(self, first: int, last: int) -> torch.Tensor:
        """Returns the vectors of items first … last − 1."""
        return self(torch.arange(first, last, device=self.device))

    def prepare(self, source: Source, communicator: Communicator, seed: int) -> None:
        """Chooses the codes and the frequent items by the train rows of all workers."""
        device, books = self.device, self.codes.shape[1]
        counts = torch.zeros(self.n_items, dtype=torch.float64, device=device)
        for piece in range(source.n_pieces):
            counts += torch.from_numpy(source.train(piece).item_counts()).to(device)
        communicator.all_reduce(counts)
        if len(self.own):
            drawn = hashing.combine(hashing.stream("item_table/ties", seed), np.arange(self.n_items, dtype=np.uint64))
            order = np.lexsort((drawn, -counts.cpu().numpy()))
            self.own_items.copy_(torch.from_numpy(np.sort(order[: len(self.own)])))
        numbers = np.arange(self.n_items)
        if self.config.items == "quotient":
            size = self.config.book_size
            codes = np.stack([numbers // size**k % size for k in range(books)], axis=1)
        elif self.config.items == "hash":
            keys = numbers.astype(np.uint64)
            hashes = [hashing.combine(hashing.stream("item_table/hash", seed, k), keys) for k in range(books)]
            codes = np.stack([h >> np.uint64(32) for h in hashes], axis=1).astype(np.int64) % self.config.book_size
        else:
            codes = self._learned_codes(source, communicator, seed)
        self.codes.copy_(torch.from_numpy(codes))

    def _learned_codes(self, source: Source, communicator: Communicator, seed: int) -> np.ndarray:
        def rows(piece: int) -> tuple[Any, Any]:
            by_user = source.train(piece).to_csr()
            return by_user, by_user.T.tocsr()

        rng = np.random.default_rng(hashing.stream("item_table/singular vectors", seed))
        shape = source.n_pieces, self.n_items, _SVD_DIM
        vectors = singular_item_vectors(rows, *shape, rng, communicator, self.device)[:-1].numpy()
        codes = residual_codes(vectors, self.codes.shape[1], self.config.book_size, seed)
        return communicator.of_first(torch.from_numpy(codes).to(self.device)).cpu().numpy()


ItemTable = OwnItems | ComposedItems
_TYPES = {1: torch.uint8, 4: torch.int32}


def _width(config: ItemTableConfig) -> int:
    """Bytes of a code."""
    return 1 if config.book_size <= 256 else 4


def look_up(items: torch.Tensor | ComposedItems, numbers: torch.Tensor) -> torch.Tensor:
    """Returns the vectors of items int64 [...] from a table [n_items, dim]."""
    return F.embedding(numbers, items) if isinstance(items, torch.Tensor) else items(numbers)


def block_of(items: torch.Tensor | ComposedItems, first: int, last: int) -> torch.Tensor:
    """Returns the vectors of items first … last − 1."""
    return items[first:last] if isinstance(items, torch.Tensor) else items.vectors(first, last)
