"""States of a training run as safetensors, without a second copy of large tensors.

``safetensors.torch.save`` holds three copies of all tensors at the same time, and loading as many. Moments and vectors
of ten million items take gigabytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch

_NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES = {"F64": "<f8", "I64": "<i8", "F32": "<f4", "I32": "<i4", "U8": "u1", "BOOL": "?"}
_ALIGNED = 8


def state_parts(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> list[memoryview]:
    """Returns the pieces of a safetensors file; they refer to the memory of the tensors that are on the CPU.

    Args:
        tensors: Tensors by name.
        metadata: Texts that go with them, by name.
    """
    # Wide types first, so that each tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    arrays, start = [], 0
    for name in names:
        tensor = tensors[name].detach().cpu().contiguous()
        arrays.append(tensor.numpy().reshape(-1).view(np.uint8))
        end = start + arrays[-1].nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNED)
    return [memoryview(len(text).to_bytes(8, "little") + text), *(array.data for array in arrays)]


def read_state(content: bytes | memoryview) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Returns copies of the tensors of a safetensors file, and the texts that go with them."""
    size = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:size]))
    metadata = header.pop("__metadata__", {})
    data, tensors = memoryview(content)[size:], {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors, metadata
