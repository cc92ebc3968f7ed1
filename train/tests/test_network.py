"""AwsNet, its units and its files, without awsnet."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from awsnet_train import (
    AwsNet,
    Logits,
    freeze,
    leave_alone,
    load_model,
    operators,
    parameter_groups,
    save_model,
    shapes,
    share_trunk,
    small,
    with_units,
)
from awsnet_train.aws_unit import KINDS, ChannelUnit, GateUnit, aws_unit
from awsnet_train.manifest import Layer

EMOTIONS, AUS = ["calm", "glad"], ["AU1", "AU4", "AU12"]


def network(aws: str = "channel", seed: int = 0) -> AwsNet:
    torch.manual_seed(seed)
    return small(EMOTIONS, AUS, size=16, widths=(4, 6, 8), aws=aws).eval()


def shaken(net: AwsNet, seed: int = 1) -> AwsNet:
    """Every tensor moved, running statistics included, so that none has its first value."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
        else:
            tensor.add_(3)
    return net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_a_new_unit_keeps_nine_tenths_of_its_own_branch(kind, gate):
    emotion, au = torch.randn(2, 3, 8, 5, 4)
    mixed_emotion, mixed_au = aws_unit(kind, 8, gate=gate)(emotion, au)
    torch.testing.assert_close(mixed_emotion, 0.9 * emotion + 0.1 * au)
    torch.testing.assert_close(mixed_au, 0.9 * au + 0.1 * emotion)


def test_the_indices_of_a_unit_are_to_and_from():
    unit = ChannelUnit(1)
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None])
    emotion, au = unit(torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 100.0))
    assert (emotion.item(), au.item()) == (210.0, 430.0)


def test_a_softmax_gate_always_adds_up_to_one():
    unit = GateUnit(6, 3)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.normal_()
    ones = torch.ones(4, 6, 2, 2) * torch.rand(4, 6, 1, 1)
    for mixed in unit(ones, ones):
        torch.testing.assert_close(mixed, ones)


@pytest.mark.parametrize(("kind", "names"), [
    ("layer", {"weight": [2, 2]}),
    ("channel", {"weight": [2, 2, 8]}),
    ("dense", {"weight": [2, 2, 8, 8]}),
    ("gate", {"squeeze.weight": [4, 16], "squeeze.bias": [4], "excite.weight": [2, 2, 8, 4], "excite.bias": [2, 2, 8]}),
])  # fmt: skip
def test_the_tensors_of_a_unit_are_those_of_the_format(kind, names):
    assert {name: list(tensor.shape) for name, tensor in aws_unit(kind, 8).state_dict().items()} == names


def test_the_state_dict_is_the_tensor_list():
    names = set(network().state_dict())
    trunk = {f"stage{s}.conv{c}.weight" for s, c in ((1, 1), (2, 1), (2, 2), (3, 1))}
    norms = {
        f"stage{s}.bn{c}.{part}"
        for s, c in ((1, 1), (2, 1), (2, 2), (3, 1))
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    of_a_branch = trunk | norms | {"fc.weight", "fc.bias"}
    units = {f"aws.{layer}.weight" for layer in ("stage1.conv1", "stage2.conv2", "stage3.conv1")}
    assert names == {f"{branch}.{name}" for branch in ("emotion", "au") for name in of_a_branch} | units


@pytest.mark.parametrize("aws", ["none", *KINDS])
def test_save_and_load_are_exact_both_ways(aws, tmp_path):
    net = shaken(network(aws))
    save_model(net, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.manifest == net.manifest
    assert loaded.state_dict().keys() == net.state_dict().keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    images = torch.randn(2, 3, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(loaded(images), net(images), strict=True))
    save_model(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_f16_is_the_same_network_to_the_precision_of_f16(tmp_path):
    net = shaken(network())
    save_model(net, tmp_path / "half.safetensors", torch.float16)
    with safe_open(tmp_path / "half.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16, torch.int64}  # noqa: SIM118
    for name, tensor in load_model(tmp_path / "half.safetensors").state_dict().items():
        torch.testing.assert_close(tensor, net.state_dict()[name], rtol=1e-3, atol=1e-6)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    net = network()
    net.manifest["name"] = object()  # no JSON text
    with pytest.raises(ValueError, match="`name`: expected a string"):
        save_model(net, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_manifest_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"expected the key awsnet, found none"):
        load_model(tmp_path / "x.safetensors")


def test_units_take_larger_steps_and_no_weight_decay():
    net = network("gate")
    filters, units = parameter_groups(net, lr=0.01, weight_decay=0.1, unit_lr_multiplier=7)
    assert (filters["lr"], filters["weight_decay"]) == (0.01, 0.1)
    assert (units["lr"], units["weight_decay"]) == (pytest.approx(0.07), 0.0)
    assert len(filters["params"]) + len(units["params"]) == len(list(net.parameters()))
    assert len(parameter_groups(network("none"), 0.01, 0.1, 7)) == 1


def test_what_is_frozen_keeps_its_weights_and_its_statistics():
    net = shaken(network())
    freeze(net, "branches")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    groups = parameter_groups(net, lr=0.1, weight_decay=0.1, unit_lr_multiplier=1)
    optimiser = torch.optim.SGD(groups)
    for _ in range(2):
        net.train()
        sum(logits.square().sum() for logits in net(torch.randn(4, 3, 16, 16))).backward()
        optimiser.step()
    for name, tensor in net.state_dict().items():
        moves = name.startswith("aws.") or ".fc." in name
        assert torch.equal(tensor, before[name]) != moves, name
    freeze(net)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(module.training for module in net.train().modules())
    with pytest.raises(ValueError, match="expected some of branches, heads, units, emotion, au, found 'trunk'"):
        freeze(net, "trunk")


@pytest.mark.parametrize("kind", ["layer", "channel", "dense"])
def test_a_frozen_branch_says_what_it_said(kind):
    net, images = shaken(network(kind)), torch.randn(4, 3, 16, 16)
    freeze(net, "emotion")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimiser = torch.optim.AdamW(parameter_groups(net, lr=0.1, weight_decay=0.1, unit_lr_multiplier=1))
    for _ in range(2):
        net.train()
        sum(logits.square().sum() for logits in net(images)).backward()
        optimiser.step()
    for name, tensor in net.state_dict().items():
        if name.startswith("aws."):
            assert torch.equal(tensor[0], before[name][0]), name
            assert not torch.equal(tensor[1], before[name][1]), name
        else:
            assert torch.equal(tensor, before[name]) == name.startswith("emotion."), name
    freeze(net)
    sum(logits.square().sum() for logits in net.train()(images)).backward()
    assert all(parameter.grad[0].abs().sum() > 0 for parameter in net.aws.parameters())


@pytest.mark.parametrize("kind", ["layer", "channel", "dense"])
def test_a_branch_that_is_left_alone_borrows_nothing(kind):
    net, images = shaken(network(kind)).eval(), torch.randn(2, 3, 16, 16)
    leave_alone(net, "emotion")
    alone = net(images).emotion
    with torch.no_grad():
        for parameter in net.get_submodule("au").parameters():
            parameter.uniform_(-1, 1)
    torch.testing.assert_close(net(images).emotion, alone)


def test_beside_gates_no_branch_can_be_kept_alone():
    with pytest.raises(ValueError, match="expected layer, channel or dense units beside a frozen branch, found a gate"):
        freeze(network("gate"), "au")


def pool(op: str, **keys) -> Layer:
    return Layer("pool", op, ("image",), **keys)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("include", [False, True])
def test_padded_pools_are_those_of_pytorch(op, ceil_mode, include, monkeypatch):
    """Where PyTorch takes the padding, the way for the paddings that it does not take gives the same."""
    generator = torch.Generator().manual_seed(0)
    for kernel, stride, padding, size in itertools.product((2, 3, 5), (1, 2, 3, 7), (0, 1, 2), (5, 6, 9)):
        if 2 * padding > kernel:
            continue
        values = torch.randn(2, 3, size, size + 1, generator=generator)
        keys = {"kernel": (kernel, kernel), "stride": (stride, stride), "padding": (padding,) * 4}
        layer = pool(op, **keys, ceil_mode=ceil_mode, count_include_pad=include)
        expected = operators.apply(layer, None, [values])
        with monkeypatch.context() as patch:
            patch.setattr(operators, "native_padding", lambda layer: None)
            found = operators.apply(layer, None, [values])
        torch.testing.assert_close(found, expected)
        assert shapes.output_shape(layer, [shapes.Shape(3, size, size + 1)], None) == tuple(found.shape[1:])


def test_an_uneven_average_by_hand():
    values = torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None]
    keys = {"kernel": (2, 2), "stride": (2, 2), "padding": (1, 0, 0, 0)}  # a row above
    counted = operators.apply(pool("avg_pool2d", **keys, ceil_mode=True), None, [values])
    assert counted.tolist() == [[[[3 / 4, 3 / 2], [9 / 2, 6]]]]
    real = operators.apply(pool("avg_pool2d", **keys, ceil_mode=True, count_include_pad=False), None, [values])
    assert real.tolist() == [[[[3 / 2, 3], [9 / 2, 6]]]]


def test_logits_go_by_name_and_by_place():
    logits = Logits({"emotion": torch.zeros(1, 2), "valence": torch.ones(1, 1)})
    assert logits["valence"] is logits.valence is logits[1]
    assert [name for name, _ in logits.items()] == ["emotion", "valence"]
    with pytest.raises(KeyError, match="no head au; the heads are emotion, valence"):
        logits["au"]
    with pytest.raises(AttributeError):
        _ = logits.au


def test_a_shared_trunk_is_one_trunk_with_two_heads(tmp_path):
    net = network("none")
    separate = sum(parameter.numel() for parameter in net.parameters())
    share_trunk(net)
    heads = sum(parameter.numel() for head in net.heads().values() for parameter in head.parameters())
    assert sum(parameter.numel() for parameter in net.parameters()) == (separate - heads) // 2 + heads
    save_model(net, tmp_path / "shared.safetensors")
    images = torch.randn(2, 3, 16, 16)
    for found, expected in zip(load_model(tmp_path / "shared.safetensors")(images), net(images), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_manifest_of_an_unknown_op_is_refused():
    manifest = json.loads(json.dumps(network().manifest))
    manifest["layers"][1]["op"] = "attention"
    with pytest.raises(ValueError, match=r"stage2\.conv1.*attention"):
        AwsNet(manifest, {})


def test_two_resnets_become_an_awsnet_of_their_weights(tmp_path: Path):
    torchvision = pytest.importorskip("torchvision", reason="the extra torchvision is not installed")
    from awsnet_train import from_resnets

    torch.manual_seed(0)
    models = torchvision.models
    emotion, au = (models.resnet18(num_classes=len(labels)).eval() for labels in (EMOTIONS, AUS))
    mixed = from_resnets(emotion, au, EMOTIONS, AUS, size=64)
    assert isinstance(mixed.aws.get_submodule("layer4.1.conv2"), nn.Module)
    # In double precision, where the order of a sum, which may differ from run to run, hides nothing.
    net, emotion, au = with_units(mixed, "none", "none").double(), emotion.double(), au.double()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        found = net(images)
        torch.testing.assert_close(found.emotion, emotion(images))
        torch.testing.assert_close(found.au, au(images))
