"""States of training: what the safetensors package writes and reads, without its copies."""

from __future__ import annotations

import safetensors
import safetensors.torch
import torch

from distill_at_scale.models.training.state_file import read_state, state_parts

TENSORS = {
    "known": torch.tensor([True, False, True]),
    "codes": torch.arange(5, dtype=torch.uint8),
    "more": torch.arange(6, dtype=torch.int32).view(2, 3),
    "weights": torch.randn(7, 3).T,
    "step": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
    "loss": torch.tensor([1.0, 2.0], dtype=torch.float64),
    "seen": torch.tensor([2**40]),
}


def test_the_file_is_one_of_safetensors() -> None:
    content = b"".join(state_parts(TENSORS, {"position": "ä 3"}))
    found = safetensors.torch.load(content)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype
    header = int.from_bytes(content[:8], "little")
    assert header % 8 == 0
    tensors, metadata = read_state(memoryview(content))
    assert metadata == {"position": "ä 3"}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_a_file_of_safetensors_is_read() -> None:
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in TENSORS.items()}, {"position": "3"})
    tensors, metadata = read_state(content)
    assert metadata == {"position": "3"}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_pieces_refer_to_the_tensors_and_what_is_read_does_not() -> None:
    tensor = torch.zeros(4)
    parts = state_parts({"x": tensor}, {})
    before, _ = read_state(b"".join(parts))
    tensor.fill_(1.0)
    after, _ = read_state(b"".join(parts))
    assert (before["x"].tolist(), after["x"].tolist()) == ([0.0] * 4, [1.0] * 4)
    after["x"].fill_(2.0)
    assert tensor.tolist() == [1.0] * 4
