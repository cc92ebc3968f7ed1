"""The awsnet to compare with: AWSNET names it, target/release/awsnet of this repository otherwise."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from awsnet_train.faces.write import write_faces

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def awsnet() -> Path:
    path = Path(os.environ.get("AWSNET", REPOSITORY / "target/release/awsnet")).resolve()
    if not path.is_file():
        pytest.fail(f"{path}: is not there; run `cargo build --release --features cli`, or set AWSNET")
    return path


@pytest.fixture
def run(awsnet: Path, tmp_path: Path) -> Callable[[Path, Tensor], dict[str, Tensor]]:
    """`awsnet run` on a model file and normalised images: the tensors it writes."""

    def run(model: Path, images: Tensor) -> dict[str, Tensor]:
        source, target = tmp_path / "input.safetensors", tmp_path / "output.safetensors"
        save_file({"image": images.contiguous()}, source)
        command = [awsnet, "run", model, "--input", source, "--output", target, "--device", "cpu", "--threads", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return load_file(target)

    return run


@pytest.fixture
def agree(run: Callable[[Path, Tensor], dict[str, Tensor]]) -> Callable[[torch.nn.Module, Path, Tensor], None]:
    """A network and its file give the same logits, to 1e-4 of the largest, over all `images`."""

    def agree(network: torch.nn.Module, model: Path, images: Tensor) -> None:
        found = run(model, images)
        with torch.inference_mode():
            expected = network.eval()(images)
        for branch, logits in zip(("emotion", "au"), expected, strict=True):
            largest = max(logits.abs().max().item(), 0.01)
            worst = (found[f"{branch}.logits"] - logits).abs().max().item()
            assert worst <= 1e-4 * largest, f"{model.name}: {branch} differs by {worst}, the largest logit is {largest}"

    return agree


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 faces with everything that can be missing missing somewhere."""
    folder = tmp_path_factory.mktemp("faces") / "patchy"
    write_faces(folder, 96, seed=5, size=64, identities=range(20), annotation="patchy")
    return folder
