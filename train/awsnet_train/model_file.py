"""Model files: a network's tensors, and its manifest under the metadata key `awsnet`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .network import AwsNet

DTYPES = {"f32": torch.float32, "f16": torch.float16}


def save_tensors(
    tensors: Mapping[str, Tensor], manifest: dict[str, Any], path: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Writes a state_dict as it is, or with its floating point tensors in another type.

    The file appears under its name when it is whole. Tensors that share memory are written once each.
    """
    path = Path(path)
    stored = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().contiguous().clone()
        for name, tensor in tensors.items()
    }
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(save(stored, {"awsnet": json.dumps(manifest)}))
    unfinished.replace(path)


def save_model(network: AwsNet, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Writes a network; `load_model` gives back the same values, exactly so where `dtype` is not given."""
    save_tensors(network.state_dict(), network.manifest, path, dtype)


def load_model(path: str | Path) -> AwsNet:
    """Reads a network, in f32 whatever the file holds, ready for inference."""
    with safe_open(path, framework="pt") as file:
        manifest = (file.metadata() or {}).get("awsnet")
        if manifest is None:
            raise ValueError(f"{path}: metadata: expected the key awsnet, found none")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dictionary
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return AwsNet.from_tensors(json.loads(manifest), floats)
