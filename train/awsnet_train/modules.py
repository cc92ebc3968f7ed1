"""Trained networks as an AwsNet: one alone, or two of one shape as its branches, their weights included.

`trace` reads the layers of each; here they meet: two networks are compared layer by layer, AWS-Units are put where they
are wanted, and the manifest is written, of version 1 where that can say it. In the end the result is run beside the
networks on random images, in PyTorch, and with awsnet where it is found, and what differs is refused.
"""

import copy
import itertools
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .join import ADVICE, oldest, with_units
from .manifest import KINDS, UNITS, ModelError, quoted
from .model_file import save_model
from .network import AwsNet
from .trace import IMAGE, Branch, Traced, as_text, floats, selection, trace, unwrapped

TOLERANCE = 1e-4  # of the largest logit
log = logging.getLogger("awsnet_train")


def from_modules(
    emotion: nn.Module | None,
    au: nn.Module | None,
    example: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    emotions: Sequence[str] | None = None,
    aus: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
    order: str = "rgb",
    aws: str = "channel",
    units: str | Sequence[str] = "stages",
    kinds: tuple[str, str] = ("classes", "units"),
    branches: tuple[str, str] = ("emotion", "au"),
    name: str | None = None,
    face: dict[str, Any] | None = None,
    about: dict[str, str] | None = None,
    binary: str | Path | None = None,
) -> AwsNet:
    """One or two trained networks, images [N, C, H, W] to logits [N, labels], as the branches of an AwsNet.

    emotion, au: networks as they are trained or wrapped for it; the other one None for a network alone.
    example: an image, or several, as the networks read them; its channels, height and width count, not its values.
    mean, std: of v from 0 to 1, one a channel of the network; 0 and 1 where it normalises by itself.
    emotions, aus: the labels in the order of the logits. A head of the kind "values" may have none.
    thresholds: of the units, 0.5 each if not given.
    order: of the channels that the networks were trained on, "rgb" or "bgr".
    aws: the kind of the AWS-Units between two networks; with "none" each computes what it did.
    units: where they stand. "stages": behind the last pair before the map becomes smaller; "blocks": behind the first
        pair and every sum or concatenation; "pairs": behind all pairs but pools; or names of layers.
    kinds, branches: of the two heads, and the names of the branches, which are also those of the heads.
    name, face, about: as in the manifest.
    binary: the awsnet to compare with; otherwise AWSNET_BINARY, `awsnet` on PATH, or that of a checkout.
    """
    given = [
        (branch, network, kind, labels)
        for branch, network, kind, labels in zip(branches, (emotion, au), kinds, (emotions, aus), strict=True)
        if network is not None
    ]
    if not given:
        raise ValueError("emotion, au: expected at least one network, found none")
    if example.dim() != 4 or example.shape[1] not in (1, 3):
        raise ValueError(f"example: expected images [N, C, H, W] of 1 or 3 channels, found {list(example.shape)}")
    for key, value, allowed in (("aws", aws, UNITS), *(("kinds", kind, KINDS) for kind in kinds)):
        if value not in allowed:
            raise ValueError(f"{key}: expected one of {', '.join(allowed)}, found {value!r}")
    image = example[:1].detach().cpu().float()
    modules, traced = [], []
    for branch, network, kind, labels in given:
        modules.append(floats(unwrapped(network)))
        try:
            traced.append(trace(modules[-1], image, kind))
        except ModelError as error:
            raise ModelError(f"{branch}: {error.place}", error.expected, error.found) from error
        check_labels(branch, traced[-1].rows, kind, labels)
    if len(traced) == 2:
        widen(*traced)
        check_same(traced, [branch for branch, *_ in given])
    layers, heads = traced[0].layers, {}
    for (branch, _, kind, labels), one in zip(given, traced, strict=True):
        head: dict[str, Any] = {"input": "image" if one.head_input == IMAGE else layers[one.head_input].name}
        if one.head is not None:
            # A name of the other network's head may be that of a layer here.
            taken = {layer.name for layer in layers}
            one.head.name = next(n for n in numbered(one.head.name) if n not in taken)
        tensor = None if one.head is None else one.head.name
        if tensor != "fc":
            head["tensor"] = tensor
        head |= {"kind": kind, "labels": None if labels is None else list(labels)}
        if kind == "units":
            head["thresholds"] = list(thresholds) if thresholds is not None else [0.5] * one.rows
        heads[branch] = head
    manifest: dict[str, Any] = {"version": 2} | ({} if name is None else {"name": name})
    manifest["branches"] = [branch for branch, *_ in given]
    manifest["input"] = {"channels": image.shape[1], "height": image.shape[2], "width": image.shape[3]}
    manifest["input"] |= {"mean": [float(v) for v in mean], "std": [float(v) for v in std]}
    if order != "rgb":
        manifest["input"]["order"] = order
    manifest["layers"] = [manifest_layer(layers, number) for number in range(len(layers))]
    manifest["heads"] = heads
    manifest |= {key: value for key, value in (("face", face), ("about", about)) if value is not None}
    manifest = oldest(manifest)
    tensors: dict[str, Tensor] = {}
    for (branch, *_), one in zip(given, traced, strict=True):
        tensors |= branch_tensors(branch, layers, one)
    network = AwsNet.from_tensors(manifest, tensors)
    compare(network, [(branch, module, one) for (branch, *_), module, one in zip(given, modules, traced, strict=True)])
    if len(traced) == 2 and aws != "none" and units != "none":
        network = with_units(network, aws, units)
    compare_with_awsnet(network, binary)
    return network


def numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))


def check_labels(branch: str, rows: int, kind: str, labels: Sequence[str] | None) -> None:
    if labels is None and kind == "values":
        return
    if labels is None or len(labels) != rows:
        found = "none" if labels is None else str(len(labels))
        raise ModelError(f"{branch}: labels", f"{rows}, one a logit of the network", found)


def widen(first: Branch, second: Branch) -> None:
    """Where the logits are maps of a convolution and not those of a linear layer, labels make the networks differ.

    The branch with fewer gets channels of zeros, and both a head of zeros and ones that leaves them out.
    """
    chains = [last_convolution(one) for one in (first, second)]
    if chains[0] is None or chains[1] is None or first.rows == second.rows:
        return
    widest = max(first.rows, second.rows)
    for one, chain in zip((first, second), chains, strict=True):
        layers = [one.layers[number] for number in chain or ()]
        for key, tensor in layers[-1].tensors.items():
            rows = torch.zeros(widest - one.rows, *tensor.shape[1:])
            layers[-1].tensors[key] = torch.cat([tensor, rows])
        for layer in layers:
            layer.shape = (widest, *layer.shape[1:])
        places = torch.arange(one.rows)
        one.head = Traced(
            "select", "linear", [one.head_input], (one.rows, 1, 1), tensors=selection(places, layers[0].shape)
        )


def last_convolution(one: Branch) -> list[int] | None:
    """The layers from the logits back to the convolution or linear layer that says how many there are."""
    if one.head is not None:
        return None
    chain, number = [], one.head_input
    while number != IMAGE:
        layer = one.layers[number]
        readers = [other for other in one.layers if number in other.reads()]
        alone = layer.norm is None and layer.scale is None and layer.residual is None and layer.prelu is None
        if not alone or len(readers) > (0 if number == one.head_input else 1) or "groups" in layer.keys:
            return None
        chain.append(number)
        if layer.op in ("conv2d", "linear"):
            return chain if one.layers[one.head_input].shape[1:] == (1, 1) else None
        if len(layer.inputs) != 1:
            return None
        number = layer.inputs[0]
    return None


def described(one: Branch, number: int) -> dict[str, Any]:
    """All of a layer that both branches share."""
    layer = one.layers[number]
    keys = {key: value for key, value in (layer.keys | layer.activation).items() if key != "prelu"}
    norm = "a batch norm" if layer.norm is not None else "no batch norm"
    slopes = None if layer.prelu is None else len(layer.prelu)
    return {
        "op": layer.op, "output": "x".join(map(str, layer.shape)), **keys, "batch norm": norm, "slopes": slopes,
        "input": layer.inputs, "scale": layer.scale, "residual": layer.residual,
    }  # fmt: skip


def check_same(traced: list[Branch], names: list[str]) -> None:
    """Two branches are the same operators over maps of the same shape; weights, names and heads are their own."""
    first, second = traced
    for number in range(max(len(first.layers), len(second.layers))):
        if number >= min(len(first.layers), len(second.layers)):
            longer, which = (first, 0) if number < len(first.layers) else (second, 1)
            place = f"layer {number}"
            expected = f"as many layers in {names[0]} as in {names[1]}; {ADVICE}"
            raise ModelError(place, expected, f"{quoted(longer.layers[number].name)} in {names[which]} alone")
        one, other = described(first, number), described(second, number)
        for key in one | other:
            if one.get(key) != other.get(key):
                shown = [f"{d.get('op')}, {key} {d.get(key)}" if key != "op" else str(d["op"]) for d in (one, other)]
                mine, theirs = (quoted(branch.layers[number].name) for branch in traced)
                raise ModelError(
                    f"layer {number}, {mine} of {names[0]} and {theirs} of {names[1]}",
                    f"networks of one shape, of which this is the first layer that differs; {ADVICE}",
                    f"{shown[0]} and {shown[1]}",
                )


def manifest_layer(layers: list[Traced], number: int) -> dict[str, Any]:
    """A layer in the manifest's words; what is as by default is left out."""
    layer = layers[number]

    def name_of(source: int) -> str:
        return "image" if source == IMAGE else layers[source].name

    written: dict[str, Any] = {"name": layer.name, "op": layer.op}
    if layer.op == "concat":
        written["inputs"] = [name_of(source) for source in layer.inputs]
    elif layer.inputs[0] != number - 1:
        written["input"] = name_of(layer.inputs[0])
    eps = {key: value for key, value in layer.keys.items() if key == "batch_norm_eps"}
    written |= {key: short(key, value) for key, value in layer.keys.items() if key not in eps}
    if layer.norm is not None:
        written |= {"batch_norm": layer.norm, **eps}
    for key, source in (("scale", layer.scale), ("residual", layer.residual)):
        if source is not None:
            written[key] = name_of(source)
    return written | layer.activation


def short(key: str, value: Any) -> Any:  # noqa: ANN401, JSON
    """[3, 3] as 3."""
    alike = isinstance(value, list) and len(value) == 2 and value[0] == value[1] and key != "output"
    return value[0] if alike else value


def branch_tensors(branch: str, layers: list[Traced], one: Branch) -> dict[str, Tensor]:
    """The tensors of a branch under the names of the manifest, which are those of the first network."""
    tensors: dict[str, Tensor] = {}
    for named, layer in zip(layers, one.layers, strict=True):
        tensors |= {f"{branch}.{named.name}.{key}": tensor for key, tensor in layer.tensors.items()}
        tensors |= {f"{branch}.{named.norm}.{key}": tensor for key, tensor in layer.norm_tensors.items()}
        if layer.prelu is not None:
            tensors[f"{branch}.{named.activation['prelu']}.weight"] = layer.prelu
    if one.head is not None:
        tensors |= {f"{branch}.{one.head.name}.{key}": tensor for key, tensor in one.head.tensors.items()}
    return {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}


def random_images(network: AwsNet, count: int) -> Tensor:
    """Normal numbers, the last image four times as large, so that activations with limits meet theirs."""
    image = network.structure.input
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, image.channels, image.height, image.width, generator=generator)
    images[-1] *= 4
    return images


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference by the largest logit."""
    if found.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max().clamp(min=1e-30)
    return float(((found - expected).abs().max() / largest).nan_to_num(nan=float("inf")))


def compare(network: AwsNet, networks: list[tuple[str, nn.Module, Branch]]) -> None:
    """Every branch gives what its network gives, in f64, where the order of sums hides nothing."""
    images = random_images(network, 2).double()
    with torch.no_grad():
        logits = copy.deepcopy(network).double()(images)
        for branch, module, one in networks:
            found = logits[branch]
            # One image at a time: traced networks may hold the size of a batch.
            expected = torch.cat([module.double()(image[None]).flatten(1) for image in images])
            if one.last is not None:
                found = {"softmax": torch.softmax, "log_softmax": torch.log_softmax}.get(one.last, sigmoid)(found, 1)
            difference = worst(found, expected.double())
            module.float()
            if not difference <= TOLERANCE:
                expected_text = f"the logits of {as_text(module)} to {TOLERANCE:g} of the largest"
                raise ModelError(f"{branch}: comparison on random images", expected_text, f"{difference:g}")


def sigmoid(logits: Tensor, dim: int) -> Tensor:
    return logits.sigmoid()


def find_awsnet(binary: str | Path | None = None) -> Path | None:
    """The awsnet to compare with: named, in AWSNET_BINARY, on PATH, or built in the checkout of this file."""
    named = binary or os.environ.get("AWSNET_BINARY")
    if named:
        if not Path(named).is_file():
            raise ValueError(f"awsnet: expected a program, found nothing at {named}")
        return Path(named).resolve()
    on_path = shutil.which("awsnet")
    checkout = Path(__file__).resolve().parents[2]
    built = [checkout / "target" / profile / "awsnet" for profile in ("release", "debug")]
    candidates = [Path(on_path)] if on_path else [path for path in built if (checkout / "Cargo.toml").is_file()]
    return next((path for path in candidates if path.is_file()), None)


def run_awsnet(binary: Path, model: Path, images: Tensor) -> dict[str, Tensor]:
    """`awsnet run` on the CPU: the tensors that it writes."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "input.safetensors", Path(folder) / "output.safetensors"
        save_file({"image": images.contiguous()}, source)
        command: list[str | Path] = [
            binary,
            "run",
            model,
            "--input",
            source,
            "--output",
            target,
            "--device",
            "cpu",
            "--threads",
            "1",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ModelError(f"{binary}", "a run of the model", done.stderr.strip()[-300:])
        return load_file(target)


def compare_with_awsnet(network: AwsNet, binary: str | Path | None) -> None:
    """awsnet gives what the network gives; where there is no awsnet, that is said."""
    found = find_awsnet(binary)
    if found is None:
        log.warning("awsnet was not found (AWSNET_BINARY, PATH): the network is compared in PyTorch alone")
        return
    images = random_images(network, 2)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model = Path(folder) / "model.safetensors"
        save_model(network, model)
        logits = run_awsnet(found, model, images)
        for head, expected in network(images).items():
            difference = worst(logits[f"{head}.logits"].reshape(expected.shape), expected)
            if not difference <= TOLERANCE:
                place = f"{head}: comparison with {found}"
                raise ModelError(place, f"the logits of PyTorch to {TOLERANCE:g} of the largest", f"{difference:g}")
