"""The awsnet to compare with: AWSNET_BINARY names it, target/release/awsnet of this repository otherwise.

Where there is none, the tests that need it fail; those that compare networks with their conversions compare them in
PyTorch alone, and the summary of warnings says so.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from awsnet_train.faces.write import write_faces
from awsnet_train.modules import find_awsnet, run_awsnet

REPOSITORY = Path(__file__).parents[2]


def found_awsnet() -> Path | None:
    built = REPOSITORY / "target/release/awsnet"
    return find_awsnet(built if "AWSNET_BINARY" not in os.environ and built.is_file() else None)


@pytest.fixture(scope="session")
def awsnet() -> Path:
    path = found_awsnet()
    if path is None:
        pytest.fail("no awsnet here; run `cargo build --release --features cli`, or set AWSNET_BINARY")
    return path


@pytest.fixture(scope="session")
def binary() -> Path | None:
    """The awsnet that conversions compare with, where there is one."""
    path = found_awsnet()
    if path is None:
        warnings.warn(
            "NOT COMPARED with awsnet, which is not here: conversions are compared in PyTorch alone", stacklevel=1
        )
    return path


@pytest.fixture
def run(awsnet: Path) -> Callable[[Path, Tensor], dict[str, Tensor]]:
    """`awsnet run` on a model file and normalised images: the tensors it writes."""
    return lambda model, images: run_awsnet(awsnet, model, images)


@pytest.fixture
def agree(run: Callable[[Path, Tensor], dict[str, Tensor]]) -> Callable[[torch.nn.Module, Path, Tensor], None]:
    """A network and its file give the same logits, to 1e-4 of the largest, over all `images`."""

    def agree(network: torch.nn.Module, model: Path, images: Tensor) -> None:
        found = run(model, images)
        with torch.inference_mode():
            expected = network.eval()(images)
        for head, logits in expected.items():
            largest = max(logits.abs().max().item(), 0.01)
            worst = (found[f"{head}.logits"] - logits).abs().max().item()
            assert worst <= 1e-4 * largest, f"{model.name}: {head} differs by {worst}, the largest logit is {largest}"

    return agree


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 faces with everything that can be missing missing somewhere."""
    folder = tmp_path_factory.mktemp("faces") / "patchy"
    write_faces(folder, 96, seed=5, size=64, identities=range(20), annotation="patchy")
    return folder
