"""PyTorch and `awsnet run` agree to 1e-4 of the largest logit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from awsnet_train import from_resnets, load_model, save_model, save_tensors, small
from awsnet_train.aws_unit import KINDS
from awsnet_train.faces.actions import AUS, EMOTIONS
from awsnet_train.fit import Config, fit

RANDOM_MODELS = 40
SEED = int(os.environ.get("AWSNET_SEED", "0"))


def test_random_models_of_every_op_form_and_unit(agree, tmp_path: Path):
    """The files that tools/outside draws, read into PyTorch."""
    print(f"AWSNET_SEED={SEED}")
    draw = [sys.executable, REPOSITORY / "tools/outside/random_models.py", "--out", tmp_path]
    subprocess.run([*draw, "--count", str(RANDOM_MODELS), "--seed", str(SEED)], check=True)
    models = sorted(tmp_path.glob("random-*.safetensors"))
    assert len(models) == RANDOM_MODELS
    for model in models:
        network = load_model(model)
        image = network.manifest["input"]
        shape = (3, image["channels"], image["height"], image["width"])
        agree(network, model, torch.randn(shape, generator=torch.Generator().manual_seed(SEED)))


@pytest.mark.parametrize("trained", [
    {"aws": "none"}, {"aws": "none", "shared_trunk": True}, *({"aws": kind} for kind in KINDS),
], ids=lambda keys: "shared trunk" if "shared_trunk" in keys else keys["aws"])  # fmt: skip
def test_trained_networks_of_every_kind(trained, agree, faces: Path, tmp_path: Path):
    """Three epochs on 96 faces: batch norms, units and gates have left where they started."""
    config = Config(str(faces), str(faces), str(tmp_path), widths=(8, 12, 16), epochs=3, batch=32, **trained)
    network, _ = fit(config)
    assert network.state_dict()["emotion.stage1.bn1.num_batches_tracked"] == 9
    agree(network, tmp_path / "model.safetensors", torch.randn(5, 3, 64, 64))


@pytest.mark.parametrize("aws", ["none", *KINDS])
def test_resnets(aws, agree, tmp_path: Path):
    resnet18 = pytest.importorskip("torchvision", reason="the extra torchvision is not installed").models.resnet18
    torch.manual_seed(SEED)
    network = from_resnets(
        resnet18(num_classes=len(EMOTIONS)), resnet18(num_classes=len(AUS)), EMOTIONS, AUS, size=64, aws=aws
    )
    save_model(network, tmp_path / "resnet18.safetensors")
    agree(network, tmp_path / "resnet18.safetensors", torch.randn(2, 3, 64, 64))


def test_the_state_dicts_of_two_resnets_run_as_they_are(run, tmp_path: Path):
    """No AwsNet in between: two state_dicts, prefixed, and a manifest."""
    resnet18 = pytest.importorskip("torchvision", reason="the extra torchvision is not installed").models.resnet18
    torch.manual_seed(SEED)
    pair = torch.nn.ModuleDict({"emotion": resnet18(num_classes=7), "au": resnet18(num_classes=16)}).eval()
    manifest = from_resnets(*pair.values(), EMOTIONS, AUS, size=64, aws="none").manifest
    assert manifest["version"] == 1
    save_tensors(pair.state_dict(), manifest, tmp_path / "pair.safetensors")
    images = torch.randn(2, 3, 64, 64)
    found = run(tmp_path / "pair.safetensors", images)
    with torch.inference_mode():
        for branch, resnet in pair.items():
            expected = resnet(images)
            assert (found[f"{branch}.logits"] - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_a_half_precision_file_is_the_network_that_load_model_reads(agree, tmp_path: Path):
    torch.manual_seed(SEED)
    save_model(small(EMOTIONS, AUS), tmp_path / "half.safetensors", torch.float16)
    agree(load_model(tmp_path / "half.safetensors"), tmp_path / "half.safetensors", torch.randn(4, 3, 64, 64))
