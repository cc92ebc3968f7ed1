"""docs/training.md, run as it is printed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image
from torchvision.models import mobilenet_v3_small

from awsnet_train import load_model
from awsnet_train.__main__ import main
from awsnet_train.aws_unit import started

PAGE = (REPOSITORY / "docs/training.md").read_text()


def blocks(heading: str, language: str) -> list[str]:
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (found,) = (text for text in section if text.startswith(heading))
    return re.findall(rf"```{language}\n(.*?)```", found, re.DOTALL)


@pytest.fixture
def at_work(binary: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and the awsnet that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    if binary is not None:
        monkeypatch.setenv("AWSNET_BINARY", str(binary))
    return tmp_path


def test_two_trained_networks(at_work: Path):
    """Two networks as somebody has trained them, 40 faces of ten subjects, and the page does the rest."""
    torch.manual_seed(0)
    for name, rows in (("emotion", 3), ("au", 4)):
        network = mobilenet_v3_small(num_classes=rows)
        with torch.no_grad():
            for _ in range(20):  # statistics with which an image reaches the heads
                network(torch.randn(16, 3, 64, 64))
        torch.save(network.state_dict(), f"{name}.pt")
    random = np.random.default_rng(0)
    lines = ["image,subject,emotion,AU1,AU4,AU12,AU17"]
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (70, 60, 3), np.uint8)).save(f"{number}.jpg")
        emotion = ("neutral", "happiness", "anger", "")[number % 4]
        lines.append(f"{number}.jpg,{number % 10},{emotion},{number % 6},,{(number // 2) % 6},{number % 3}")
    Path("faces.csv").write_text("\n".join(lines) + "\n")

    (python,), (toml,) = (
        blocks("You have two trained networks", "python"),
        blocks("You have two trained networks", "toml"),
    )
    exec(compile(python, "docs/training.md", "exec"), {})
    Path("units.toml").write_text(toml)
    assert main(["fit", "--config", "units.toml"]) == 0

    network = load_model("units/model.safetensors")
    assert network.structure.branches == ("emotion", "au")
    alone = {head: load_model(f"{head}.safetensors") for head in ("emotion", "au")}
    state = network.state_dict()
    for head, model in alone.items():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                torch.testing.assert_close(state[name], tensor.half().float(), msg=f"{head}: {name}")
    units = [name for name in state if name.startswith("aws.")]
    assert units
    assert any((state[name] - started()[..., None]).abs().max() > 2e-3 for name in units)  # beyond what f16 rounds


def test_a_loop_of_one_s_own(at_work: Path):
    (python,) = blocks("In a loop of your own", "python")
    exec(compile(python, "docs/training.md", "exec"), {})
    assert load_model("mine.safetensors").manifest["version"] == 1


def test_every_key_of_a_config_is_on_the_page():
    from dataclasses import fields

    from awsnet_train.fit import Config

    for field in fields(Config):
        assert f"`{field.name}`" in PAGE or f"\n{field.name} = " in PAGE, field.name
