"""Packing: latent sequences as few bytes, 8 bits a number and compressed.

A matrix is cut into rows that share a scale, the largest number of the row being 127 of its steps. Rows run along the
latent dimension: what the singular value decomposition of the start put there is of very different size from one
dimension to the next.
"""

from __future__ import annotations

import json

import pyarrow as pa
import safetensors.torch
import torch

from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.errors import DasError

_STEPS = 127
_LEVEL = 19
"""Compression level of zstd: the files are small and written once."""


def quantise(latent: LatentSequences) -> bytes:
    """zstd of a safetensors file: inputs, decoder and targets as int8 with a float32 scale a latent dimension.

    Raises:
        DasError: numbers that are NaN or infinite, which would come back as others.
    """
    named = {"inputs": latent.inputs, "decoder": latent.decoder.T}
    if latent.targets is not None:
        named["targets"] = latent.targets
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in named.items():
        values = _finite(tensor, name)
        largest = values.reshape(-1, values.shape[-1]).abs().amax(dim=0)
        scale = largest / _STEPS
        # The smallest numbers there are have no step; beside any other they are 0.
        scale = torch.where(scale > 0, scale, 1.0)
        # One latent dimension after the other: numbers of like size together compress better.
        tensors[name] = (values / scale).round().to(torch.int8).movedim(-1, 0).contiguous()
        tensors[f"{name}.scale"] = scale
    if latent.log_rates is not None:
        tensors["log_rates"] = _finite(latent.log_rates, "log_rates")
    content = safetensors.torch.save(tensors, {"latent": json.dumps({"temperature": latent.temperature})})
    return pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True)


def _finite(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """float32 on the CPU."""
    values = tensor.detach().float().cpu()
    wrong = int((~torch.isfinite(values)).sum())
    if wrong:
        raise DasError(
            f"farzi: {wrong:,} of {values.numel():,} numbers of the {name} are NaN or infinite, so the sequences "
            "cannot be stored; distil again with a smaller rate (--set rate=0.001) or student_rate."
        )
    return values


def dequantise(packed: bytes) -> LatentSequences:
    """What :func:`pack` packed, on the CPU, float32."""
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        content = stream.read()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    temperature = json.loads(header["__metadata__"]["latent"])["temperature"]
    found = safetensors.torch.load(content)
    values = {
        name: (found[name].movedim(0, -1).float() * found[f"{name}.scale"]).contiguous()
        for name in ("inputs", "decoder", "targets")
        if name in found
    }
    decoder = values["decoder"].T.contiguous()
    return LatentSequences(values["inputs"], decoder, values.get("targets"), temperature, found.get("log_rates"))
