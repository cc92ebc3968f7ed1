"""Model files: a network's tensors, and its manifest under the metadata key `awsnet`.

What awsnet refuses is refused here, before a byte is written and before a network is built.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .manifest import ModelError, parse_json, read_manifest
from .network import AwsNet
from .shapes import check_tensors

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def save_tensors(
    tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], path: str | Path, dtype: torch.dtype | None = None
) -> None:
    """Writes a state_dict as it is, or with its floating point tensors in another type.

    The file appears under its name when it is whole. Tensors that share memory are written once each.
    """
    path = Path(path)
    stored = {
        name: (tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor).detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    try:
        check_tensors(read_manifest(manifest), stored)
    except ModelError as error:
        raise ModelError(f"{path}: {error.place}", error.expected, error.found) from error
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(save(stored, {"awsnet": json.dumps(manifest)}))
    unfinished.replace(path)


def save_model(network: AwsNet, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Writes a network; `load_model` gives back the same values, exactly so where `dtype` is not given."""
    network.check()
    save_tensors(network.state_dict(), network.manifest, path, dtype)


def load_model(path: str | Path) -> AwsNet:
    """Reads a network, in f32 whatever the file holds, ready for inference."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("awsnet")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dictionary
    except SafetensorError as error:
        raise ModelError(str(path), "a safetensors file", str(error)) from error
    if text is None:
        raise ModelError(f"{path}: metadata", "the key awsnet", "none")
    try:
        manifest = parse_json(text)
        check_tensors(read_manifest(manifest), tensors)
        floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        return AwsNet.from_tensors(manifest, floats)
    except ModelError as error:
        raise ModelError(f"{path}: {error.place}", error.expected, error.found) from error
