"""What awsnet refuses is refused before it is trained: tests/model_file/faults.json, and faults of tensors."""

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import save_file

from awsnet_train import AwsNet, load_model, save_model, save_tensors
from awsnet_train.manifest import ModelError, parse_json, read_manifest

TABLE = json.loads((REPOSITORY / "tests/model_file/faults.json").read_text())
NETWORKS = TABLE["networks"]
VERSIONS = list(NETWORKS)


def network(version: str = "version 2") -> AwsNet:
    torch.manual_seed(0)
    return AwsNet(NETWORKS[version]["manifest"], NETWORKS[version]["channels"]).eval()


def at(value, pointer):
    *parents, key = pointer.split("/")[1:]
    for parent in parents:
        value = value[int(parent) if isinstance(value, list) else parent]
    return value, int(key) if isinstance(value, list) else key


def text_of(fault) -> str:
    """The manifest's text with the fault in it."""
    if "text_repeated" in fault:
        piece, times = fault["text_repeated"]
        return piece * times
    if "text" in fault:
        return fault["text"]
    manifest = copy.deepcopy(NETWORKS[fault["network"]]["manifest"])
    for pointer, value in fault.get("set", {}).items():
        parent, key = at(manifest, pointer)
        parent[key] = value
    for pointer in fault.get("remove", []):
        parent, key = at(manifest, pointer)
        del parent[key]
    text = json.dumps(manifest, separators=(",", ":"))
    if "replace" in fault:
        before, behind = fault["replace"]
        assert before in text
        text = text.replace(before, behind, 1)
    return text


def test_every_fault_of_a_manifest_is_refused_by_name():
    """All of the table, then all that is wrong at once."""
    wrong = []
    for fault in TABLE["faults"]:
        try:
            manifest = parse_json(text_of(fault))
            AwsNet(manifest, NETWORKS[fault["network"]]["channels"])
        except ModelError as error:
            said = [(key, getattr(error, key)) for key in ("place", "expected", "found")]
            wrong += [
                f"{fault['what']}: not {key} {fault[key]!r}, but {error}"
                for key, text in said
                if fault[key] not in text
            ]
            if any(not character.isprintable() for character in str(error)) or len(str(error)) > 600:
                wrong.append(f"{fault['what']}: not a line: {error!r}")
        else:
            wrong.append(f"{fault['what']}: is taken")
    assert not wrong, "\n".join(wrong)


def test_the_table_tells_every_key_of_the_format():
    """A key that is read has a fault; so a new key comes with one."""
    blamed = " ".join(fault["place"] + fault["found"] for fault in TABLE["faults"])
    source = (REPOSITORY / "train/awsnet_train/manifest.py").read_text()
    keys = {"ceil_mode", "count_include_pad", "factor", "output", "inputs", "scale", "prelu", "kind", "branch", "order"}
    keys |= {
        "kernel",
        "stride",
        "padding",
        "dilation",
        "groups",
        "batch_norm_eps",
        "gate",
        "aws",
        "labels",
        "thresholds",
    }
    for key in keys:
        assert f'"{key}"' in source, key
        assert f"`{key}`" in blamed, key


@pytest.mark.parametrize("version", VERSIONS)
def test_the_networks_of_the_table_are_saved_and_loaded_exactly(version, tmp_path: Path):
    net = network(version)
    save_model(net, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.manifest == net.manifest
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    image = net.structure.input
    images = torch.randn(2, image.channels, image.height, image.width)
    found, expected = loaded(images), net(images)
    assert found.names == expected.names == tuple(net.manifest["heads"])
    for name, logits in found.items():
        assert torch.equal(logits, expected[name])
    save_model(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_every_weight_of_version_2_trains():
    net = network().train()
    sum(logits.square().sum() for logits in net(torch.randn(4, 3, 9, 7))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def set_first(tensors, name, value):
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = value


@pytest.mark.parametrize(("what", "change", "message"), [
    ("missing", lambda t: t.pop("muscles.stem.weight"), r"`muscles\.stem\.weight`.*\[4, 3, 3, 3\], found none"),
    ("missing, of the first branch", lambda t: t.pop("face.stem.weight"), r"`face\.stem\.weight`.*found none"),
    ("unused", lambda t: t.update(extra=torch.zeros(1)), "`extra`.*nothing uses"),
    ("misshapen", lambda t: t.update({"face.bn.bias": torch.zeros(5)}), r"`face\.bn\.bias`.*\[4\], found \[5\]"),
    ("too wide in one branch", lambda t: t.update({"muscles.stem.weight": torch.zeros(5, 3, 3, 3)}), r"\[4, 3, 3, 3\]"),
    ("F64", lambda t: t.update({"aws.stem.weight": t["aws.stem.weight"].double()}), "F32, F16 or BF16, found float64"),
    ("NaN", lambda t: set_first(t, "face.affect.weight", torch.nan), r"`face\.affect\.weight`.*finite.*nan at index 0"),
    ("infinite", lambda t: set_first(t, "aws.places.excite.bias", torch.inf), "finite.*inf at index 0"),
    ("variance", lambda t: set_first(t, "face.gated.bn.running_var", -0.5), r"running_var`.*greater than -eps.*-0\.5"),
    ("overflow", lambda t: set_first(t, "face.joined.bn.weight", 3e38) or set_first(t, "face.joined.bn.running_var", 0),
     r"batch norm `face\.joined\.bn`.*channel 0"),
    ("slopes", lambda t: t.update({"face.slopes.weight": torch.zeros(3)}), r"`face\.slopes\.weight`"),
    ("one slope in a branch", lambda t: t.update({"face.slopes.weight": torch.zeros(1)}), r"`muscles\.slopes\.weight`"),
    ("a scalar", lambda t: t.update({"face.stem.weight": torch.tensor(1.0)}), r"`face\.stem\.weight`.*a scalar"),
], ids=lambda value: value if isinstance(value, str) and " " not in value else "")  # fmt: skip
def test_faults_of_tensors(what, change, message, tmp_path: Path):
    tensors, manifest = dict(network().state_dict()), NETWORKS["version 2"]["manifest"]
    change(tensors)
    with pytest.raises(ModelError, match=message):
        save_tensors(tensors, manifest, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
    whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(whole, tmp_path / "x.safetensors", {"awsnet": json.dumps(manifest)})
    with pytest.raises(ModelError, match=rf"x\.safetensors: .*{message}"):
        load_model(tmp_path / "x.safetensors")


def test_weights_that_f16_cannot_hold_are_not_written(tmp_path: Path):
    net = network()
    with torch.no_grad():
        net.heads()["face"].weight[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"`face\.fc\.weight`: expected finite numbers"):
        save_model(net, tmp_path / "x.safetensors", torch.float16)
    save_model(net, tmp_path / "x.safetensors", torch.bfloat16)


def test_what_is_no_model_file_is_refused(tmp_path: Path):
    (tmp_path / "x.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match=r"x\.safetensors: expected a safetensors file"):
        load_model(tmp_path / "x.safetensors")


def test_a_manifest_that_was_changed_into_another_network_is_not_saved(tmp_path: Path):
    net = network()
    net.manifest["layers"][0]["padding"] = 0
    with pytest.raises(ModelError, match="`layers`: expected what the network was built from"):
        save_model(net, tmp_path / "x.safetensors")
    net = network()
    net.manifest["input"]["mean"] = [0, 0, 0]  # not of the network, but of its images
    net.manifest["heads"]["muscles"]["thresholds"] = [0.125, 0.25]
    save_model(net, tmp_path / "x.safetensors")
    assert load_model(tmp_path / "x.safetensors").structure.heads[2].thresholds == (0.125, 0.25)


def test_the_orders_of_channels():
    net = network()
    pixels = torch.randint(0, 256, (2, 9, 7, 3), dtype=torch.uint8)
    turned = copy.deepcopy(net)
    turned.manifest["input"]["order"] = "rgb"
    assert torch.equal(net.normalise(pixels), turned.normalise(pixels.flip(3)))


@pytest.mark.parametrize("name", ["type", "forward", "train", "weight", ".", "a..weight", "half"])
def test_any_name_of_the_format_is_a_name_of_a_layer(name, tmp_path: Path):
    manifest = {
        "version": 1,
        "input": {"channels": 1, "height": 4, "width": 4, "mean": [0], "std": [1]},
        "layers": [
            {"name": name, "op": "conv2d", "kernel": 3},
            {"name": f"{name}.weight", "op": "conv2d", "kernel": 1, "aws": "gate"},
        ],
        "heads": {"emotion": {"input": name, "labels": ["a"]}, "au": {"input": f"{name}.weight", "labels": ["b"]}},
    }
    net = AwsNet(manifest, {name: 3, f"{name}.weight": 2}).eval()
    save_model(net, tmp_path / "x.safetensors")
    images = torch.randn(1, 1, 4, 4)
    found, expected = load_model(tmp_path / "x.safetensors")(images), net(images)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert read_manifest(net.manifest).layers[0].name == name


def test_layers_may_share_a_batch_norm_and_a_head_may_be_a_layer(tmp_path: Path):
    manifest = {
        "version": 1,
        "input": {"channels": 3, "height": 2, "width": 2, "mean": [0] * 3, "std": [1] * 3},
        "layers": [
            {"name": "a", "op": "conv2d", "kernel": 1, "batch_norm": "bn", "batch_norm_eps": 1},
            {"name": "b", "op": "conv2d", "kernel": 1, "batch_norm": "bn", "batch_norm_eps": 0.01},
            {"name": "fc", "op": "linear"},
        ],
        "heads": {"emotion": {"input": "fc", "labels": list("abcd")}, "au": {"input": "b", "labels": list("abcd")}},
    }
    manifest["heads"]["emotion"]["tensor"] = "last"
    net = AwsNet(manifest, {"a": 3, "b": 3, "fc": 4}).eval()
    assert net.emotion.bn is net.emotion.get_submodule("bn")
    save_model(net, tmp_path / "x.safetensors")
    images = torch.randn(1, 3, 2, 2)
    with torch.inference_mode():
        a = net.emotion.a(images) / (1 + 1) ** 0.5
        b = net.emotion.b(a) / (1 + 0.01) ** 0.5
        torch.testing.assert_close(net(images).emotion, net.emotion.last(net.emotion.fc(b.flatten(1))))
        torch.testing.assert_close(load_model(tmp_path / "x.safetensors")(images).emotion, net(images).emotion)
