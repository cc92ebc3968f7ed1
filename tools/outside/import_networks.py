"""The field's networks from PyTorch through ONNX and `awsnet import`, against ONNX Runtime.

Each network has random weights and batch norm statistics, is exported twice with heads of 7 and 12 scores, and imported
alone and as a pair; `awsnet run` must give ONNX Runtime's scores within 1e-4 of the largest. Exports that are there
already are taken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torchvision.models as models
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

SCORES = (7, 12)
BOUND = 1e-4


class Block(nn.Module):
    """A block of IResNet, the backbone of ArcFace: batch norm first, PReLU."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        changes = stride != 1 or inside != out
        down = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.downsample = down if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The map behind the block."""
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + self.downsample(x)


class IResNet50(nn.Module):
    """IResNet-50 with the tail of ArcFace: a linear layer over the last map, and a batch norm behind it."""

    def __init__(self, scores: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inside = 64
        for out, count in zip((64, 128, 256, 512), (3, 4, 14, 3), strict=True):
            for at in range(count):
                blocks.append(Block(inside, out, 2 if at == 0 else 1))
                inside = out
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.blocks = nn.Sequential(*blocks)
        self.tail = nn.Sequential(nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * 7 * 7, scores))
        self.features = nn.BatchNorm1d(scores)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of an image of 112x112."""
        return self.features(self.tail(self.blocks(self.stem(x))))


# A network of so many scores, and the side of its image. VGG's pool is exported for whole multiples of 7 alone.
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "resnet18": (lambda n: models.resnet18(num_classes=n), 64),
    "resnet50": (lambda n: models.resnet50(num_classes=n), 64),
    "vgg16_bn": (lambda n: models.vgg16_bn(num_classes=n), 224),
    "mobilenet_v2": (lambda n: models.mobilenet_v2(num_classes=n), 64),
    "mobilenet_v3_small": (lambda n: models.mobilenet_v3_small(num_classes=n), 64),
    "mobilenet_v3_large": (lambda n: models.mobilenet_v3_large(num_classes=n), 64),
    "efficientnet_b0": (lambda n: models.efficientnet_b0(num_classes=n), 64),
    "regnet_y_400mf": (lambda n: models.regnet_y_400mf(num_classes=n), 64),
    "densenet121": (lambda n: models.densenet121(num_classes=n), 64),
    "squeezenet1_1": (lambda n: models.squeezenet1_1(num_classes=n), 64),
    "shufflenet_v2": (lambda n: models.shufflenet_v2_x1_0(num_classes=n), 64),
    "googlenet": (lambda n: models.googlenet(num_classes=n, aux_logits=False, init_weights=False), 64),
    "iresnet50": (IResNet50, 112),
}


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """The network with weights that keep maps in range, and statistics that a batch norm could have learnt."""
    random = torch.Generator().manual_seed(seed)

    def between(tensor: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(tensor.shape, generator=random) * (high - low) + low

    def normal(tensor: Tensor, deviation: float) -> Tensor:
        return torch.randn(tensor.shape, generator=random) * deviation

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = normal(module.weight, (2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                module.bias.data = normal(module.bias, 0.05)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.weight.data = between(module.weight, 0.5, 1.0)
            module.bias.data = normal(module.bias, 0.1)
            module.running_mean = normal(module.running_mean, 0.1)
            module.running_var = between(module.running_var, 0.8, 1.25)
        elif isinstance(module, nn.PReLU):
            module.weight.data = between(module.weight, 0.0, 0.4)
    return network.eval()


def export(name: str, exporter: str, folder: Path) -> list[Path]:
    """The network's two files."""
    make, side = NETWORKS[name]
    paths = []
    for seed, scores in enumerate(SCORES):
        path = folder / f"{name}.{exporter}.{scores}.onnx"
        paths.append(path)
        if path.exists():
            continue
        network = randomised(make(scores), seed)
        image = torch.zeros(1, 3, side, side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                torch.onnx.export(network, (image,), path, dynamo=True, verbose=False)
            else:
                # Version 11 with nothing folded, or a newer one as PyTorch folds it.
                options = (
                    {"opset_version": 11, "do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
                    if exporter == "unfolded"
                    else {"opset_version": 17, "dynamic_axes": {"image": {0: "batch"}}}
                )
                torch.onnx.export(network, (image,), path, dynamo=False, input_names=["image"], **options)
    return paths


def worst_difference(awsnet: Path, files: list[Path], folder: Path) -> float:
    """The largest difference of any score, in parts of the largest, for one image."""
    model, image_file, scores_file = (folder / name for name in ("m.safetensors", "x.safetensors", "y.safetensors"))
    subprocess.run([awsnet, "import", *files, "--mean", "0", "-o", model], check=True, capture_output=True, text=True)
    worst = 0.0
    sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files]
    shape = sessions[0].get_inputs()[0].shape
    image = np.random.default_rng(0).normal(size=[1, *shape[1:]]).astype(np.float32)
    save_file({"image": image}, image_file)
    subprocess.run(
        [awsnet, "run", model, "--input", image_file, "--output", scores_file, "--device", "cpu"],
        check=True,
        capture_output=True,
        text=True,
    )
    scores = load_file(scores_file)
    for session, branch in zip(sessions, ("emotion", "au"), strict=False):
        (expected,) = session.run(None, {session.get_inputs()[0].name: image})
        difference = np.abs(scores[f"{branch}.logits"] - expected).max() / np.abs(expected).max()
        worst = max(worst, float(difference))
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--awsnet", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where the exported files are kept")
    parser.add_argument("--exporters", default="torchscript", help="torchscript, unfolded, dynamo; by commas")
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name in arguments.networks or NETWORKS:
        for exporter in arguments.exporters.split(","):
            files = export(name, exporter, arguments.folder)
            for what, chosen in (("alone", files[:1]), ("a pair", files)):
                try:
                    difference = worst_difference(arguments.awsnet, chosen, arguments.folder)
                    text, fine = f"{difference:.1e}", difference <= BOUND
                except subprocess.CalledProcessError as error:
                    text, fine = error.stderr.strip(), False
                failures += not fine
                print(f"{'ok  ' if fine else 'FAIL'} {name}, {exporter}, {what}: {text}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
