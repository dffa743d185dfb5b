"""Quantisation: stores latent sequences with 8 bits per number, compressed.

Each latent dimension has its own scale; its largest absolute value becomes 127. The scales differ, since the singular
value decomposition of the initialisation gives dimensions very different magnitudes.
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
    """Returns a zstd-compressed safetensors file: inputs, decoder and targets as int8, with a float32 scale per latent
    dimension.

    Raises:
        DasError: Values are NaN or infinite, which int8 cannot represent.
    """
    named = {"inputs": latent.inputs, "decoder": latent.decoder.T}
    if latent.targets is not None:
        named["targets"] = latent.targets
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in named.items():
        values = _finite(tensor, name)
        largest = values.reshape(-1, values.shape[-1]).abs().amax(dim=0)
        scale = largest / _STEPS
        # The scale of subnormal values underflows to 0; they are stored as 0.
        scale = torch.where(scale > 0, scale, 1.0)
        # Stored by latent dimension, since values of similar size compress better together.
        tensors[name] = (values / scale).round().to(torch.int8).movedim(-1, 0).contiguous()
        tensors[f"{name}.scale"] = scale
    if latent.log_rates is not None:
        tensors["log_rates"] = _finite(latent.log_rates, "log_rates")
    content = safetensors.torch.save(tensors, {"latent": json.dumps({"temperature": latent.temperature})})
    return pa.Codec("zstd", compression_level=_LEVEL).compress(content, asbytes=True)


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


def dequantise(packed: bytes) -> LatentSequences:
    """Restores latent sequences from :func:`quantise`, float32 on the CPU."""
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
