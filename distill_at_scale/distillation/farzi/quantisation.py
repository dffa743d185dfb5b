"""Quantisation: stores latent sequences in 8 bits per number or fewer, compressed.

With 8 bits each latent dimension has its own scale; its largest absolute value becomes 127. The scales differ, since
the singular value decomposition of the initialisation gives dimensions very different magnitudes. With fewer bits a
number gets as many as it is worth (:mod:`levels`): relative errors of 2 % in the logits' variance take about 2 bits a
number, where 8 bits for each dimension take 7 once compressed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import safetensors.torch
import torch

from distill_at_scale.distillation.books import Books
from distill_at_scale.distillation.farzi import levels
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.errors import DasError

BYTE = 8.0
"""Bits of the format with a scale per dimension and no entropy coding but zstd's."""
_STEPS = 127
_LEVEL = 19
"""Compression level of zstd: the files are small and written once."""


def quantise(latent: LatentSequences) -> bytes:
    """Returns a zstd-compressed safetensors file: inputs, decoder and targets in ``latent.bits`` bits per number.

    8 bits are int8 with a float32 scale per latent dimension. Fewer are the mean entropy of a number, with more of it
    for dimensions that contribute more to the logits. Inputs that are items are stored as such.

    Raises:
        DasError: Values are NaN or infinite, which integers cannot represent.
    """
    named = {"decoder": _finite(latent.decoder.T, "decoder")}
    if latent.items is None:
        named["inputs"] = _finite(latent.inputs, "inputs")
    if latent.targets is not None:
        named["targets"] = _finite(latent.targets, "targets")
    described: dict[str, Any] = {"temperature": latent.temperature}
    if latent.bits == BYTE:
        tensors = _bytes_of(named)
    else:
        tensors, coded = _coded(named, latent.bits)
        described |= {"bits": latent.bits, "coded": coded}
    if latent.items is not None:
        tensors["items"] = _planes(latent.items, latent.n_items)
        described |= {"shape of the items": list(latent.items.shape)}
    if latent.books is not None:
        tensors["codes"] = _planes(latent.books.codes.T.contiguous(), latent.books.size)
        described |= {"books": latent.books.n_books, "book size": latent.books.size}
    if latent.log_rates is not None:
        tensors["log_rates"] = _finite(latent.log_rates, "log_rates")
    content = safetensors.torch.save(tensors, {"latent": json.dumps(described)})
    return pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True)


def dequantise(packed: bytes) -> LatentSequences:
    """Restores latent sequences from :func:`quantise`, float32 on the CPU."""
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        content = stream.read()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    described = json.loads(header["__metadata__"]["latent"])
    found = safetensors.torch.load(content)
    coded = described.get("coded", {})
    values = {name: _decoded(found, name, form) for name, form in coded.items()}
    values |= {
        name: (found[name].movedim(0, -1).float() * found[f"{name}.scale"]).contiguous()
        for name in ("inputs", "decoder", "targets")
        if name in found and name not in coded
    }
    if "items" in found:
        values["inputs"] = _from_planes(found["items"]).view(described["shape of the items"])
    books = None
    if "codes" in found:
        codes = _from_planes(found["codes"]).view(described["books"], -1).T.contiguous()
        books = Books(codes, described["book size"])
    decoder = values["decoder"].T.contiguous()
    return LatentSequences(
        values["inputs"],
        decoder,
        values.get("targets"),
        described["temperature"],
        found.get("log_rates"),
        described.get("bits", BYTE),
        books,
    )


def _finite(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Returns the values as float32 on the CPU; refuses NaN and infinite ones."""
    values = tensor.detach().float().cpu()
    wrong = int((~torch.isfinite(values)).sum())
    if wrong:
        raise DasError(
            f"farzi: {wrong:,} of {values.numel():,} values of the {name} are NaN or infinite, so the sequences "
            "cannot be stored; distill again with a smaller rate (--set rate=0.001) or student_rate."
        )
    return values


def _bytes_of(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns int8 tensors and their scales."""
    tensors: dict[str, torch.Tensor] = {}
    for name, values in named.items():
        largest = values.reshape(-1, values.shape[-1]).abs().amax(dim=0)
        scale = largest / _STEPS
        # The scale of subnormal values underflows to 0; they are stored as 0.
        scale = torch.where(scale > 0, scale, 1.0)
        # Stored by latent dimension, since values of similar size compress better together.
        tensors[name] = (values / scale).round().to(torch.int8).movedim(-1, 0).contiguous()
        tensors[f"{name}.scale"] = scale
    return tensors


def _coded(named: dict[str, torch.Tensor], bits: float) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns tensors of entropy-coded levels, and the form of each by name."""
    flat = {name: values.flatten(0, -2).numpy() for name, values in named.items()}
    parts = {name: part for name, part in flat.items() if name != "decoder"}
    steps = levels.steps_for(parts, flat["decoder"], bits)
    tensors: dict[str, torch.Tensor] = {}
    forms: dict[str, Any] = {}
    for name, values in flat.items():
        found = levels.levels(values, steps[name])
        coded, others, width = levels.encode(found)
        tensors[name], tensors[f"{name}.others"] = torch.from_numpy(coded), torch.from_numpy(others)
        scale = levels.fitted_steps(values, found, steps[name])
        tensors[f"{name}.scale"] = torch.from_numpy(scale.astype(np.float32))
        forms[name] = {"shape": list(named[name].shape), "width": width}
    return tensors, forms


def _decoded(found: dict[str, torch.Tensor], name: str, form: Mapping[str, Any]) -> torch.Tensor:
    shape, scale = form["shape"], found[f"{name}.scale"]
    n = int(np.prod(shape[:-1]))
    whole = levels.decode(found[name].numpy(), found[f"{name}.others"].numpy(), form["width"], (n, shape[-1]))
    return (torch.from_numpy(whole).float() * scale).view(shape)


def _planes(numbers: torch.Tensor, limit: int) -> torch.Tensor:
    """Returns numbers below a limit as uint8 [bytes, n], lowest byte first: high bytes have few values and compress
    well."""
    n_bytes = max(1, -(-(limit - 1).bit_length() // 8))
    flat = numbers.flatten().cpu().long()
    return torch.stack([(flat >> 8 * k & 255).to(torch.uint8) for k in range(n_bytes)])


def _from_planes(planes: torch.Tensor) -> torch.Tensor:
    """Returns the numbers, int64 [n], from :func:`_planes`."""
    found = torch.zeros(planes.shape[1], dtype=torch.int64)
    for k, plane in enumerate(planes):
        found += plane.long() << 8 * k
    return found
