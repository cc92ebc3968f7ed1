"""Networks of the field become model files that compute the same, or are refused by name.

`from_modules` ends with a comparison of its own; here the logits are compared once more, from outside.
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from awsnet_train import AwsNet, ModelError, from_modules, from_resnets, load_model, modules, save_model

SEED = int(os.environ.get("AWSNET_SEED", "0"))
EMOTIONS, AUS = ["calm", "glad", "cross"], ["AU1", "AU4", "AU12", "AU17"]
HALF = {"mean": [0.5] * 3, "std": [0.25] * 3}
models = torchvision.models


def shaken(network: nn.Module, seed: int = SEED) -> nn.Module:
    """Batch norms and slopes with numbers of their own, as after a training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.1, generator=generator)
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4, generator=generator)
    return network.eval()


def pair_of(build: Callable[[int], nn.Module]) -> tuple[nn.Module, nn.Module]:
    """Two networks of one shape with weights of their own, three logits and four."""
    torch.manual_seed(SEED)
    return shaken(build(len(EMOTIONS))), shaken(build(len(AUS)), SEED + 1)


def image(size: int = 64, channels: int = 3, count: int = 1) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(SEED + 7))


def same(found: Tensor, network: nn.Module, images: Tensor) -> None:
    """To 1e-4 of the largest logit."""
    with torch.no_grad():
        expected = network.float()(images).flatten(1)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


class IBasicBlock(nn.Module):
    """Of ArcFace's IResNet: batch norm first, PReLU in between, batch norm behind."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before, eps=1e-5)
        self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=1e-5)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps=1e-5)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        out += x if self.downsample is None else self.downsample(x)
        return out


class IResNet(nn.Module):
    def __init__(self, blocks: tuple[int, ...], classes: int, size: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        before = 64
        for stage, (count, width) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
            layers = [IBasicBlock(before if index == 0 else width, width, 2 - min(index, 1)) for index in range(count)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            before = width
        self.bn2, self.dropout = nn.BatchNorm2d(512), nn.Dropout(0.4)
        self.fc = nn.Linear(512 * (size // 16) ** 2, 128)
        self.features = nn.BatchNorm1d(128)
        self.classifier = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = torch.flatten(self.dropout(self.bn2(x)), 1)
        return self.classifier(self.features(self.fc(x)))


def vgg16_bn(classes: int) -> nn.Module:
    """With a small classifier, as it is fine-tuned; the original's has a hundred million weights."""
    network = models.vgg16_bn(weights=None)
    network.classifier = nn.Sequential(nn.Dropout(), nn.Linear(512 * 49, 32), nn.ReLU(True), nn.Linear(32, classes))
    return network


def repvgg(classes: int) -> nn.Module:
    return timm.utils.model.reparameterize_model(shaken(timm.create_model("repvgg_a0", num_classes=classes)))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet18": lambda n: models.resnet18(num_classes=n),
    "resnet50": lambda n: models.resnet50(num_classes=n),
    "vgg16_bn": vgg16_bn,
    "mobilenet_v2": lambda n: models.mobilenet_v2(num_classes=n),
    "mobilenet_v3_small": lambda n: models.mobilenet_v3_small(num_classes=n),
    "mobilenet_v3_large": lambda n: models.mobilenet_v3_large(num_classes=n),
    "efficientnet_b0": lambda n: models.efficientnet_b0(num_classes=n),
    "regnet_y_400mf": lambda n: models.regnet_y_400mf(num_classes=n),
    "densenet121": lambda n: models.densenet121(num_classes=n),
    "squeezenet1_1": lambda n: models.squeezenet1_1(num_classes=n),
    "shufflenet_v2_x0_5": lambda n: models.shufflenet_v2_x0_5(num_classes=n),
    "googlenet": lambda n: models.googlenet(num_classes=n, init_weights=False),
    "iresnet50": lambda n: IResNet((3, 4, 14, 3), n, 64),
    "repvgg_a0, reparametrised": repvgg,
    "timm efficientnet_b0": lambda n: timm.create_model("efficientnet_b0", num_classes=n),
    "timm mobilenetv3_small_100": lambda n: timm.create_model("mobilenetv3_small_100", num_classes=n),
    "timm resnet50d": lambda n: timm.create_model("resnet50d", num_classes=n),
    "timm regnety_004": lambda n: timm.create_model("regnety_004", num_classes=n),
}
# What version 1 can say is written as version 1.
VERSION_1 = ("resnet18", "resnet50", "repvgg_a0, reparametrised", "timm resnet50d")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_as_pairs_and_alone(name: str, binary: Path | None, tmp_path: Path):
    """As a pair without units each branch is its network; one alone is a model of one branch."""
    emotion, au = pair_of(NETWORKS[name])
    images = image(count=2)
    both = from_modules(emotion, au, images, **HALF, emotions=EMOTIONS, aus=AUS, aws="none", binary=binary, name=name)
    assert both.manifest["version"] == (1 if name in VERSION_1 else 2)
    with torch.no_grad():
        logits = both(images)
    same(logits.emotion, emotion, images)
    same(logits.au, au, images)
    alone = from_modules(None, au, images[:1], **HALF, aus=AUS, binary=binary)
    assert alone.structure.branches == ("au",)
    assert alone.structure.version == 2
    with torch.no_grad():
        same(alone(images).au, au, images)
    save_model(alone, tmp_path / "alone.safetensors")
    assert load_model(tmp_path / "alone.safetensors").manifest == alone.manifest


def test_the_state_dict_of_a_resnet_keeps_its_names():
    emotion, au = pair_of(small_resnet)
    net = from_modules(emotion, au, image(), **HALF, emotions=EMOTIONS, aus=AUS, aws="none")
    expected = {f"emotion.{name}": tensor for name, tensor in emotion.state_dict().items()}
    expected |= {f"au.{name}": tensor for name, tensor in au.state_dict().items()}
    assert net.state_dict().keys() == expected.keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_from_resnets_is_a_call_of_it():
    emotion, au = pair_of(small_resnet)
    net = from_resnets(emotion, au, EMOTIONS, AUS, size=64, mean=[0.5] * 3, thresholds=[0.25] * 4)
    assert net.manifest["input"]["mean"] == [0.5] * 3
    assert net.manifest["heads"]["au"]["thresholds"] == [0.25] * 4
    with_units = [layer.name for layer in net.structure.layers if layer.aws != "none"]
    assert with_units == ["conv1", *(f"layer{s}.{b}.conv2" for s in range(1, 5) for b in range(1))]
    grey = [small_resnet(len(labels)) for labels in (EMOTIONS, AUS)]
    for network in grey:
        network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net = from_resnets(*grey, EMOTIONS, AUS, size=64, mean=[0.5], std=[0.5])
    assert net.structure.input.channels == 1


# What people change, by name; None where it cannot be said, with the words of the refusal.


def small_resnet(classes: int = len(EMOTIONS), blocks: tuple[int, ...] = (1, 1, 1, 1), **keys: object) -> nn.Module:
    """torchvision's ResNet with a block a stage."""
    torch.manual_seed(SEED)
    return shaken(models.ResNet(models.resnet.BasicBlock, list(blocks), num_classes=classes, **keys))


def with_eps(network: nn.Module, eps: float) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps
    return network


def with_activation(network: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, build())
    return network


def with_parts(network: nn.Module, **parts: nn.Module) -> nn.Module:
    for name, part in parts.items():
        setattr(network, name, part)
    return network


def with_conv1(network: nn.Module, **keys: object) -> nn.Module:
    network.conv1 = nn.Conv2d(**{"in_channels": 3, "out_channels": 64, "kernel_size": 3, "bias": False} | keys)
    return network


CHANGES: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "eps 1e-3": (lambda: with_eps(small_resnet(), 1e-3), None),
    "LeakyReLU": (lambda: with_activation(small_resnet(), lambda: nn.LeakyReLU(0.2)), None),
    "SiLU": (lambda: with_activation(small_resnet(), nn.SiLU), None),
    "GELU": (lambda: with_activation(small_resnet(), nn.GELU), None),
    "GELU by tanh": (lambda: with_activation(small_resnet(), lambda: nn.GELU("tanh")), None),
    "PReLU": (lambda: with_activation(small_resnet(), nn.PReLU), None),
    "ReLU6": (lambda: with_activation(small_resnet(), nn.ReLU6), None),
    "Hardswish": (lambda: with_activation(small_resnet(), nn.Hardswish), None),
    "ELU": (lambda: with_activation(small_resnet(), nn.ELU), None),
    "Tanh": (lambda: with_activation(small_resnet(), nn.Tanh), None),
    "ELU of another alpha": (lambda: with_activation(small_resnet(), lambda: nn.ELU(0.5)), r"`relu` \(elu\).*alpha 0\.5"),
    "Mish": (lambda: with_activation(small_resnet(), nn.Mish), r"`relu` \(mish\): expected an operator"),
    "Softplus": (lambda: with_activation(small_resnet(), nn.Softplus), r"`relu` \(softplus\)"),
    "maxpool Identity": (lambda: with_parts(small_resnet(), maxpool=nn.Identity()), None),
    "maxpool an average": (lambda: with_parts(small_resnet(), maxpool=nn.AvgPool2d(3, 2, 1)), None),
    "an average without its padding": (
        lambda: with_parts(small_resnet(), maxpool=nn.AvgPool2d(3, 2, 1, count_include_pad=False)), None
    ),
    "maxpool with ceil_mode": (lambda: with_parts(small_resnet(), maxpool=nn.MaxPool2d(3, 2, ceil_mode=True)), None),
    "a dilated maxpool": (
        lambda: with_parts(small_resnet(), maxpool=nn.MaxPool2d(3, 2, 1, dilation=2)), r"`maxpool` \(max_pool2d\).*dilation"
    ),
    "a global maximum": (lambda: with_parts(small_resnet(), avgpool=nn.AdaptiveMaxPool2d(1)), None),
    "an LPPool": (lambda: with_parts(small_resnet(), maxpool=nn.LPPool2d(2, 2)), r"`maxpool` \(pow\)"),
    "reflect padding": (
        lambda: with_conv1(small_resnet(), padding=1, padding_mode="reflect"), r"`conv1` \(pad\): .*zeros, found reflect"
    ),
    "replicate padding": (lambda: with_conv1(small_resnet(), padding=1, padding_mode="replicate"), "found replicate"),
    "circular padding": (lambda: with_conv1(small_resnet(), padding=1, padding_mode="circular"), "found circular"),
    "same padding": (lambda: with_conv1(small_resnet(), kernel_size=7, padding="same"), None),
    "same padding of an even kernel": (lambda: with_conv1(small_resnet(), kernel_size=4, padding="same"), None),
    "valid padding": (lambda: with_conv1(small_resnet(), padding="valid"), None),
    "a small stem": (lambda: with_parts(with_conv1(small_resnet(), padding=1), maxpool=nn.Identity()), None),
    "dropout before fc": (
        lambda: with_parts(small_resnet(), fc=nn.Sequential(nn.Dropout(0.5), nn.Linear(512, len(EMOTIONS)))), None
    ),
    "a hidden layer": (
        lambda: with_parts(
            small_resnet(),
            fc=nn.Sequential(nn.Linear(512, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)),
        ),
        None,
    ),
    "a softmax at the end": (
        lambda: with_parts(small_resnet(), fc=nn.Sequential(nn.Linear(512, 3), nn.Softmax(1))), None
    ),
    "a log-softmax at the end": (
        lambda: with_parts(small_resnet(), fc=nn.Sequential(nn.Linear(512, 3), nn.LogSoftmax(1))), None
    ),
    "a sigmoid behind classes": (
        lambda: with_parts(small_resnet(), fc=nn.Sequential(nn.Linear(512, 3), nn.Sigmoid())),
        "output: expected logits or a softmax behind them or a log_softmax behind them, for the kind classes",
    ),
    "layer norm": (lambda: with_parts(small_resnet(), bn1=nn.GroupNorm(1, 64)), r"`bn1` \(group_norm\)"),
    "instance norm": (lambda: with_parts(small_resnet(), bn1=nn.InstanceNorm2d(64)), r"`bn1`"),
    "batch norm without statistics": (
        lambda: with_parts(small_resnet(), bn1=nn.BatchNorm2d(64, track_running_stats=False)), r"`bn1` .*running statistics"
    ),
    "batch norm without weights": (lambda: with_parts(small_resnet(), bn1=nn.BatchNorm2d(64, affine=False)), None),
    "upsampling between pixels": (
        lambda: with_parts(small_resnet(), maxpool=nn.Upsample(scale_factor=2, mode="bilinear")), r"`maxpool`.*bilinear"
    ),
    "a transposed convolution": (
        lambda: with_parts(small_resnet(), maxpool=nn.ConvTranspose2d(64, 64, 2, 2)), r"`maxpool` \(conv_transpose2d\)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_resnet_is_right_or_refused_by_name(change: str, binary: Path | None):
    build, refusal = CHANGES[change]
    network = shaken(build())
    images = image(32, count=2) * 4
    if refusal is not None:
        with pytest.raises(ModelError, match=refusal):
            from_modules(network, None, images, **HALF, emotions=EMOTIONS)
        return
    net = from_modules(network, None, images, **HALF, emotions=EMOTIONS, binary=binary)
    with torch.no_grad():
        logits = net(images).emotion
        last = {"a softmax at the end": logits.softmax(1), "a log-softmax at the end": logits.log_softmax(1)}
        same(last.get(change, logits), network, images)


class Written(nn.Module):
    """A network whose forward is a function of its convolutions and the image."""

    def __init__(self, forward: Callable[..., Tensor], features: int = 8) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 8, 3, 1, 1)
        self.bn = nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.narrow = nn.Conv2d(4, 8, 3, 1, 1)
        self.squeeze, self.excite = nn.Linear(8, 2), nn.Linear(2, 8)
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 8).view(8, 1, 1))
        self.register_buffer("shift", torch.linspace(-1, 1, 3).view(3, 1, 1))
        self.fc = nn.Linear(features, len(EMOTIONS))
        self.written = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.written(self, x)


def shuffled(x: Tensor, groups: int = 2) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def gated(net: Written, x: Tensor) -> Tensor:
    scale = x.mean((2, 3))
    scale = net.excite(functional.relu(net.squeeze(scale))).sigmoid()
    return x * scale[:, :, None, None]


def end(net: Written, x: Tensor) -> Tensor:
    return net.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


WRITTEN: dict[str, tuple[Callable[..., Tensor], int]] = {
    "functional forms": (lambda n, x: end(n, functional.relu(n.bn(n.b(functional.silu(n.a(x)))), inplace=True)), 8),
    "mean as a method": (lambda n, x: n.fc(n.a(x).relu().mean([2, 3])), 8),
    "mean of a mean": (lambda n, x: n.fc(n.a(x).mean(3).mean(2)), 8),
    "mean of a mean that keeps axes": (lambda n, x: n.fc(n.a(x).mean(3, True).mean(2, True).view(-1, 8)), 8),
    "mean over flattened pixels": (lambda n, x: n.fc(n.a(x).flatten(2).mean(-1)), 8),
    "sum over pixels": (lambda n, x: n.fc(n.a(x).sum((2, 3))), 8),
    "maximum over pixels": (lambda n, x: n.fc(n.a(x).amax((2, 3))), 8),
    "flatten": (lambda n, x: n.fc(functional.avg_pool2d(n.a(x), 4).flatten(1)), 128),
    "flatten, channels last": (lambda n, x: n.fc(functional.avg_pool2d(n.a(x), 4).permute(0, 2, 3, 1).flatten(1)), 128),
    "rows turned and flattened": (lambda n, x: n.fc(functional.avg_pool2d(n.a(x), 4).flip(2, 3).flatten(1)), 128),
    "linear over channels last": (lambda n, x: end(n, n.excite(n.squeeze(n.a(x).movedim(1, -1)).relu()).movedim(-1, 1)), 8),
    "operators": (lambda n, x: end(n, n.a(x) + n.b(n.a(x)) * 0.5 - 0.25 - n.c(n.a(x))), 8),
    "in place": (lambda n, x: end(n, n.b(n.a(x).relu_().add_(1.0).mul_(0.5))), 8),
    "in place, and read before": (lambda n, x: (lambda y: end(n, n.b(y) + y.relu_()))(n.a(x)), 8),
    "a sum with itself": (lambda n, x: (lambda y: end(n, y + y))(n.a(x)), 8),
    "a product with itself": (lambda n, x: (lambda y: end(n, y * y))(n.a(x)), 8),
    "a product of two maps": (lambda n, x: (lambda y: end(n, n.b(y) * n.c(y)))(n.a(x)), 8),
    "a factor a channel": (lambda n, x: end(n, n.a(x).relu() * n.gamma + 1), 8),
    "a factor before a batch norm": (lambda n, x: end(n, n.bn(n.a(x) * n.gamma)), 8),
    "a factor behind a batch norm": (lambda n, x: end(n, n.bn(n.a(x)) * n.gamma), 8),
    "normalisation of the image": (lambda n, x: end(n, n.a((x - n.shift) / 0.25)), 8),
    "one minus": (lambda n, x: end(n, 1 - n.a(x).sigmoid()), 8),
    "negative": (lambda n, x: end(n, -n.a(x).relu()), 8),
    "squeeze and excitation": (lambda n, x: end(n, gated(n, n.a(x))), 8),
    "and a sum behind it": (lambda n, x: (lambda y: end(n, functional.relu(gated(n, n.b(y)) + y)))(n.a(x)), 8),
    "hard-swish spelt out": (lambda n, x: (lambda y: end(n, y * functional.relu6(y + 3) / 6))(n.a(x)), 8),
    "hard-sigmoid spelt out": (lambda n, x: (lambda y: end(n, n.b(y) * (functional.relu6(y + 3) / 6)))(n.a(x)), 8),
    "hard-sigmoid by clamp": (lambda n, x: end(n, (n.a(x) + 3).clamp(0, 6) / 6), 8),
    "swish spelt out": (lambda n, x: (lambda y: end(n, y * torch.sigmoid(y)))(n.a(x)), 8),
    "clamp from 0": (lambda n, x: end(n, n.a(x).clamp(min=0)), 8),
    "concatenation": (lambda n, x: (lambda y: n.fc(torch.cat([y, n.b(y)], 1).mean((2, 3))))(n.a(x)), 16),
    "concatenation of vectors": (lambda n, x: (lambda y: n.fc(torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1)))(n.a(x)), 16),
    "the image beside maps": (lambda n, x: n.fc(torch.cat([n.a(x), x.relu()], 1).mean((2, 3))), 11),
    "chunk and shuffle": (
        lambda n, x: (lambda y: end(n, n.c(shuffled(torch.cat([y[0], n.narrow(y[1])[:, :4]], 1)))))(n.a(x).chunk(2, 1)), 8
    ),
    "a shuffle before a depthwise convolution": (lambda n, x: end(n, n.c(n.depthwise(shuffled(n.a(x))))), 8),
    "a shuffle before a wide convolution": (lambda n, x: end(n, n.b(shuffled(n.a(x), 4))), 8),
    "a shuffle before a batch norm": (lambda n, x: end(n, n.bn(shuffled(n.a(x)))), 8),
    "a shuffle before a sum": (lambda n, x: (lambda y: end(n, shuffled(y) + y))(n.a(x)), 8),
    "a shuffle that is read twice": (lambda n, x: (lambda y, z: end(n, n.b((z + y).relu()) * z))(*(lambda y: (y, shuffled(y)))(n.a(x))), 8),
    "a shuffle at the end": (lambda n, x: n.fc(shuffled(n.a(x)).mean((2, 3))), 8),
    "channel_shuffle": (lambda n, x: end(n, n.c(functional.channel_shuffle(n.a(x), 2))), 8),
    "some channels": (lambda n, x: end(n, n.narrow(n.a(x).relu()[:, 2:6])), 8),
    "channels by index": (lambda n, x: end(n, n.narrow(n.a(x).index_select(1, torch.tensor([5, 0, 7, 0])))), 8),
    "upsampling": (lambda n, x: end(n, n.b(functional.interpolate(n.a(x), scale_factor=2.0))), 8),
    "upsampling to a size": (
        lambda n, x: (lambda y: end(n, y + functional.interpolate(n.b(functional.max_pool2d(y, 2)), size=y.shape[-2:])))(n.a(x)), 8
    ),
    "zeros around": (lambda n, x: end(n, n.b(functional.pad(n.a(x), (1, 0, 2, 1)))), 8),
    "zeros around, then an average": (lambda n, x: end(n, functional.avg_pool2d(functional.pad(n.a(x), (0, 1, 0, 1)), 2)), 8),
    "zeros around, then a maximum": (lambda n, x: end(n, functional.max_pool2d(functional.pad(n.a(x), (0, 1, 0, 1)), 2)), 8),
    "zeros around what is never below": (
        lambda n, x: end(n, functional.max_pool2d(functional.pad(n.a(x).relu(), (0, 1, 0, 1)), 3, 2)), 8
    ),
    "-inf around": (
        lambda n, x: end(n, functional.max_pool2d(functional.pad(n.a(x), (0, 1, 0, 1), value=-torch.inf), 3, 2)), 8
    ),
    "adaptive averages": (lambda n, x: n.fc(functional.adaptive_avg_pool2d(n.a(x), (3, 5)).flatten(1)), 120),
    "adaptive averages of one size": (lambda n, x: n.fc(functional.adaptive_avg_pool2d(n.a(x), (2, 4)).flatten(1)), 64),
    "a product with a matrix": (lambda n, x: n.a(x).mean((2, 3)) @ n.fc.weight.T + n.fc.bias, 8),
    "layers used twice": (lambda n, x: end(n, n.bn(n.b(n.bn(n.b(n.a(x)))))), 8),
    "what nobody reads": (lambda n, x: (n.c(n.a(x)), end(n, n.a(x)))[1], 8),
    "logits without a last layer": (lambda n, x: n.a(x)[:, :3].mean((2, 3)), 8),
    "a 1x1 convolution at the end": (lambda n, x: n.narrow(n.a(x)[:, :4])[:, :3].amax((2, 3)), 8),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[..., Tensor], str]] = {
    "a power": (lambda n, x: end(n, n.a(x).clamp(min=1e-6).pow(3)), r"\(clamp\): expected limits of 0 and 6"),
    "a division of maps": (lambda n, x: end(n, n.a(x) / n.c(n.a(x))), r"\(div\).*division by a constant"),
    "attention": (lambda n, x: end(n, (n.a(x).flatten(2) @ n.a(x).flatten(2).mT).unsqueeze(-1)), r"\(matmul\)"),
    "a softmax within": (lambda n, x: end(n, n.a(x).softmax(1) * n.a(x)), "softmax within the network"),
    "parts of pixels": (lambda n, x: end(n, n.b(n.a(x)[:, :, ::2, ::2])), "moved within their maps"),
    "a place of its own": (lambda n, x: end(n, n.a(x) + torch.arange(16.0)), "one number a channel"),
    "a mean over rows": (lambda n, x: end(n, n.a(x).mean(2, True)), "reduction over the height and the width"),
    "half a pixel": (lambda n, x: end(n, functional.interpolate(n.a(x), size=24)), "whole numbers"),
    "a vector added to a map": (lambda n, x: end(n, n.a(x) + n.a(x).mean((2, 3), True)), "maps of one shape"),
    "no image": (lambda n, x: n.fc(n.gamma.view(1, 8)), "depend on the image"),
    "two outputs": (lambda n, x: (end(n, n.a(x)), n.a(x)), "2 values"),
    "a map as output": (lambda n, x: n.a(x), r"the shape \[1, 8, 16, 16\]"),
    "a path by values": (lambda n, x: end(n, n.a(x) if x.sum() > 0 else n.a(-x)), "torch.export can trace"),
    "noise": (lambda n, x: end(n, n.a(x) + torch.randn(8, 16, 16)), "one number a channel"),
    "a dropout that is always on": (lambda n, x: end(n, functional.dropout(n.a(x), 0.5)), "always on"),
    "a map that is cut": (lambda n, x: end(n, n.b(n.a(x)[:, :, 1:-1, 1:-1])), "moved within their maps"),
}  # fmt: skip


@pytest.mark.parametrize("form", WRITTEN)
def test_whatever_form_a_forward_has(form: str, binary: Path | None):
    torch.manual_seed(SEED)
    forward, features = WRITTEN[form]
    network = shaken(Written(forward, features))
    images = image(16, count=2)
    net = from_modules(network, None, images, **HALF, emotions=EMOTIONS, binary=binary)
    with torch.no_grad():
        same(net(images).emotion, network, images)


@pytest.mark.parametrize("form", REFUSED)
def test_what_cannot_be_said_is_refused_by_name(form: str):
    torch.manual_seed(SEED)
    forward, message = REFUSED[form]
    with pytest.raises(ModelError, match=message):
        from_modules(shaken(Written(forward)), None, image(16), **HALF, emotions=EMOTIONS)


@pytest.mark.parametrize("wrap", [
    nn.DataParallel, lambda m: torch.optim.swa_utils.AveragedModel(m), lambda m: timm.utils.ModelEmaV2(m),
    lambda m: timm.utils.ModelEmaV3(m), lambda m: nn.Sequential(m), lambda m: m.half(), lambda m: m.bfloat16(),
    lambda m: m.double(), lambda m: m.train(), lambda m: m.to(memory_format=torch.channels_last),
], ids=["DataParallel", "AveragedModel", "ModelEmaV2", "ModelEmaV3", "Sequential", "f16", "bf16", "f64", "train",
        "channels last"])  # fmt: skip
def test_wrappers_and_types(wrap: Callable[[nn.Module], object]):
    """The network within is converted, and the network itself is left as it was."""
    network = small_resnet()
    wrapped = wrap(copy.deepcopy(network))
    before = {name: tensor.clone() for name, tensor in getattr(wrapped, "state_dict", dict)().items()}
    training = getattr(wrapped, "training", None)
    net = from_modules(wrapped, None, image(32), **HALF, emotions=EMOTIONS)
    assert getattr(wrapped, "training", None) == training
    for name, tensor in before.items():
        assert torch.equal(wrapped.state_dict()[name], tensor), name
        assert wrapped.state_dict()[name].dtype == tensor.dtype
    weight = net.state_dict()[
        "emotion.0.conv1.weight" if isinstance(wrapped, nn.Sequential) else "emotion.conv1.weight"
    ]
    torch.testing.assert_close(weight, network.conv1.weight, rtol=1e-2, atol=1e-3)


def test_what_the_input_is_stands_in_the_file(binary: Path | None):
    emotion, au = pair_of(lambda n: with_conv1(small_resnet(n), in_channels=1, padding=1))
    face = {"box": {"scale": 1.3, "shift": [0.0, 0.05]}}
    net = from_modules(
        emotion, au, image(32, channels=1), mean=[0.4], std=[0.2], emotions=EMOTIONS, aus=AUS, face=face,
        about={"licence": "MIT"}, thresholds=[0.1, 0.2, 0.3, 0.4], name="grey", binary=binary,
    )  # fmt: skip
    assert net.manifest["input"] == {"channels": 1, "height": 32, "width": 32, "mean": [0.4], "std": [0.2]}
    assert (net.manifest["name"], net.manifest["face"], net.manifest["about"]) == ("grey", face, {"licence": "MIT"})
    assert net.manifest["heads"]["au"]["thresholds"] == [0.1, 0.2, 0.3, 0.4]
    bgr = from_modules(small_resnet(), None, image(32), **HALF, emotions=EMOTIONS, order="bgr", binary=binary)
    assert bgr.manifest["input"]["order"] == "bgr"


def test_heads_of_other_kinds_and_names(binary: Path | None):
    """Valence and arousal beside intensities, one with labels and one without."""
    affect, intensity = pair_of(lambda n: models.mobilenet_v3_small(num_classes=n))
    net = from_modules(
        affect, intensity, image(), **HALF, emotions=["valence", "arousal", "dominance"], kinds=("values", "values"),
        branches=("affect", "intensity"), binary=binary,
    )  # fmt: skip
    assert [(h.name, h.kind, h.labels) for h in net.structure.heads] == [
        ("affect", "values", ("valence", "arousal", "dominance")), ("intensity", "values", None),
    ]  # fmt: skip
    bounded = with_parts(small_resnet(), fc=nn.Sequential(nn.Linear(512, 2), nn.Tanh()))
    net = from_modules(
        bounded, None, image(32), **HALF, emotions=["valence", "arousal"], kinds=("values", "units"), binary=binary
    )
    assert net.structure.heads[0].tensor is None
    assert net.structure.layers[-1].activation == "tanh"


def units_of(net: AwsNet) -> list[str]:
    return [layer.name for layer in net.structure.layers if layer.aws != "none"]


@pytest.mark.parametrize(("units", "expected"), [
    ("stages", ["conv1", *(f"layer{s}.0.conv2" for s in range(1, 5))]),
    ("blocks", ["conv1", *(f"layer{s}.0.conv2" for s in range(1, 5))]),
    ("pairs", ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
     + [f"layer{s}.0.{name}" for s in range(2, 5) for name in ("conv1", "downsample.0", "conv2")]),
    (["layer2.0.conv2"], ["layer2.0.conv2"]),
    ("none", []),
])  # fmt: skip
def test_units_stand_where_they_are_wanted(units, expected):
    emotion, au = pair_of(small_resnet)
    images = image(48)
    net = from_modules(emotion, au, images, **HALF, emotions=EMOTIONS, aus=AUS, units=units)
    assert units_of(net) == expected
    with torch.no_grad():
        apart = from_modules(emotion, au, images, **HALF, emotions=EMOTIONS, aus=AUS, aws="none")(images)
        assert torch.equal(net(images).emotion, apart.emotion) != bool(expected)


def test_units_that_have_no_place_are_refused():
    emotion, au = pair_of(small_resnet)
    with pytest.raises(ValueError, match=r"expected names among conv1, .*found 'conv9'"):
        from_modules(emotion, au, image(32), **HALF, emotions=EMOTIONS, aus=AUS, units=["conv9"])
    with pytest.raises(ValueError, match="units: expected one of none, stages"):
        from_modules(emotion, au, image(32), **HALF, emotions=EMOTIONS, aus=AUS, units="everywhere")


@pytest.mark.parametrize(("au", "message"), [
    (lambda: small_resnet(4, (2, 1, 1, 1)),
     r"layer 4, `layer2\.0\.conv1` of emotion and `layer1\.1\.conv1` of au: .*first layer that differs; "
     r"otherwise each as a model of one branch, or one of the networks as both branches"),
    (lambda: models.resnet50(num_classes=4), r"layer 2, `layer1\.0\.conv1` of .* and `layer1\.0\.conv1` of au.*kernel"),
    (lambda: with_eps(small_resnet(4), 1e-3), "layer 0, `conv1`.*batch_norm_eps None and .*0.001"),
    (lambda: with_activation(small_resnet(4), nn.SiLU), "layer 0, `conv1`.*activation relu and .*silu"),
    (lambda: small_resnet(4, width_per_group=64, replace_stride_with_dilation=None, zero_init_residual=True), None),
    (lambda: nn.Sequential(small_resnet(9), nn.ReLU(), nn.Linear(9, 4)),
     r"layer 13: expected as many layers in emotion as in au; otherwise .*found `0\.fc` in au alone"),
])  # fmt: skip
def test_two_networks_that_differ_in_shape(au, message):
    emotion, au = small_resnet(), shaken(au())
    if message is None:
        from_modules(emotion, au, image(32), **HALF, emotions=EMOTIONS, aus=AUS)
        return
    with pytest.raises(ModelError, match=message):
        from_modules(emotion, au, image(32), **HALF, emotions=EMOTIONS, aus=AUS)


def test_names_of_two_networks_may_differ():
    """A ResNet of torchvision and one of timm are one shape; the names are those of the first."""
    torch.manual_seed(SEED)
    au = shaken(timm.create_model("resnet18", num_classes=4))
    emotion = small_resnet(blocks=(2, 2, 2, 2))
    net = from_modules(emotion, au, image(), **HALF, emotions=EMOTIONS, aus=AUS, aws="none")
    same(net(image()).au, au, image())


@pytest.mark.parametrize(("keys", "message"), [
    ({"emotions": EMOTIONS[:2]}, "emotion: labels: expected 3, one a logit of the network, found 2"),
    ({"emotions": None}, "emotion: labels: expected 3, .*found none"),
    ({"emotions": ["a", "b", "a"]}, "`labels`: expected labels that are distinct"),
    ({"mean": [0.5]}, "`mean`: expected an array of 3"),
    ({"std": [0, 1, 1]}, "`std`: expected numbers greater than 0"),
    ({"order": "gbr"}, "`order`: expected rgb or bgr"),
    ({"thresholds": [0.5]}, None),
    ({"example": torch.zeros(3, 32, 32)}, r"example: expected images \[N, C, H, W\]"),
    ({"example": torch.zeros(1, 4, 32, 32)}, "example: expected images .* of 1 or 3 channels"),
    ({"aws": "attention"}, "aws: expected one of none, layer"),
    ({"kinds": ("scores", "units")}, "kinds: expected one of classes"),
    ({"binary": "/nowhere/awsnet"}, "awsnet: expected a program, found nothing at /nowhere/awsnet"),
    ({"emotion": None}, "expected at least one network"),
    ({"emotion": "resnet18.pt"}, "expected a torch.nn.Module, found a str"),
])  # fmt: skip
def test_faulty_arguments_are_refused_by_name(keys, message):
    arguments = {"emotion": small_resnet(), "au": None, "example": image(32), "emotions": EMOTIONS, **HALF} | keys
    if message is None:
        from_modules(**arguments)  # thresholds of a head that is not there
        return
    with pytest.raises(ValueError, match=message):
        from_modules(**arguments)


def test_what_differs_is_refused(monkeypatch: pytest.MonkeyPatch):
    """The comparison at the end sees a conversion that computes something else."""

    read = modules.manifest_layer

    def wrong(layers, number):
        layer = read(layers, number)
        return layer | ({"activation": "silu"} if layer.get("activation") == "relu" else {})

    monkeypatch.setattr(modules, "manifest_layer", wrong)
    with pytest.raises(ModelError, match="emotion: comparison on random images: expected the logits of network ResNet"):
        from_modules(small_resnet(), None, image(32), **HALF, emotions=EMOTIONS)
