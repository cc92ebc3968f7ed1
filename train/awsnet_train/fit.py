"""Training: from a config to a model file.

Everything random is drawn from the seed and the number of the epoch, so a training that resumes from its checkpoint
ends with the same weights as one that never stopped.
"""

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .architectures import architecture, architectures
from .augment import AUGMENTATIONS, augment
from .aws_unit import KINDS
from .curves import draw_curves
from .dataset import Dataset, Labels, found_labels, load_dataset, subject_folds
from .faces.actions import AUS, EMOTIONS
from .join import as_branch, join_models, newest, oldest, with_units
from .losses import Annotations, Weights, balanced, partial_loss
from .metrics import Metrics, Predicted, best_thresholds, mean_of, measure
from .model_file import DTYPES, load_model, save_model
from .network import BRANCHES, PARTS, AwsNet, Logits, freeze, leave_alone, parameter_groups, share_trunk

HEADS = {"emotion": "classes", "au": "units", "values": "values"}  # that `fit` trains


@dataclass(frozen=True)
class Config:
    """What a training is; the keys of a config file. Paths are relative to where the command runs.

    Labels that are not given are those of `init`, of the source itself (`dataset`), or of the synthetic faces.
    """

    train: str  # images with annotations; see `dataset`
    validation: str  # "" with folds
    out: str  # a folder for the checkpoint, the model, the metrics and the curves
    test: str | None = None
    name: str | None = None  # of the network; by default the strategy
    face: dict[str, Any] | None = None  # how a face is cut out, and whence the network is: keys of the manifest
    about: dict[str, Any] | None = None
    limit: int | None = None  # the first images of `train` only
    emotions: tuple[str, ...] | None = None
    aus: tuple[str, ...] | None = None
    values: tuple[str, ...] = ()  # of a head `values`: valence and arousal, or AUs, whose intensities it then learns
    values_branch: str = "emotion"  # that the head `values` reads
    au_active: float | None = None  # the intensity from which an AU is active; above 0 if not given
    init: tuple[str, ...] = ()  # a model file to go on from, or two of one branch each
    copied_as: str | None = None  # a branch that begins as a copy of the one of `init`, with a head of its own
    arch: str = "small"  # or a network of torchvision, as both branches; without `init`
    size: int = 64
    widths: tuple[int, ...] = (12, 24, 48, 64)  # of `small`
    aws: str = "channel"  # none, layer, channel, dense, gate; with one file as `init` the units are its own
    units: str | tuple[str, ...] = "stages"  # where they stand; `small` has them behind every stage
    shared_trunk: bool = False  # one trunk for both heads
    freeze: tuple[str, ...] = ()  # branches, heads, units, emotion, au: what stays as `init` has it
    augment: str = "moved"  # or photographed: for drawn faces; see `augment`
    folds: int = 0  # this many parts of `train` without a common subject; each validates once
    fold: int | None = None  # this one alone
    class_weights: str = "none"  # balanced: what is rare counts more
    thresholds: str = "fixed"  # validation: of each AU the one with the best F1 there
    epochs: int = 20
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-3
    unit_lr_multiplier: float = 5.0
    au_weight: float = 4.0
    values_weight: float = 1.0
    seed: int = 0
    device: str = "cpu"  # as PyTorch names it; auto: a GPU where there is one
    threads: int = 1
    dtype: str = "f32"  # of the model file: f32, f16 or bf16

    def __post_init__(self) -> None:
        choices = (
            ("aws", ("none", *KINDS)),
            ("dtype", tuple(DTYPES)),
            ("thresholds", ("fixed", "validation")),
            ("class_weights", ("none", "balanced")),
            ("values_branch", ("emotion", "au")),
            ("augment", AUGMENTATIONS),
            ("copied_as", (None, *BRANCHES)),
        )
        for key, expected in choices:
            if getattr(self, key) not in expected:
                raise ValueError(
                    f"{key}: expected one of {', '.join(filter(None, expected))}, found {getattr(self, key)!r}"
                )
        if self.shared_trunk and self.aws != "none":
            raise ValueError('shared_trunk: expected aws = "none", for one trunk has nothing to mix')
        for part in self.freeze:
            if part not in (*PARTS, *BRANCHES):
                raise ValueError(f"freeze: expected some of {', '.join((*PARTS, *BRANCHES))}, found {part!r}")
        if set(self.freeze) >= set(PARTS) or set(self.freeze) >= set(BRANCHES):
            raise ValueError("freeze: expected something that is left to train, found all parts")
        if len(self.init) > 2:
            raise ValueError(f"init: expected one or two model files, found {len(self.init)}")
        if self.copied_as is not None and len(self.init) != 1:
            raise ValueError(f"copied_as: expected one model file as init, found {len(self.init)}")
        if self.init and self.arch != "small":
            raise ValueError("arch: expected none beside init, whose files say what the network is")
        if self.arch != "small" and self.arch not in architectures():
            raise ValueError(f"arch: expected small or a classification network of torchvision, found {self.arch!r}")
        if self.folds == 1 or self.folds < 0:
            raise ValueError(f"folds: expected 0, or 2 and more, found {self.folds}")
        if self.fold is not None and not 0 <= self.fold < self.folds:
            raise ValueError(f"fold: expected one of {self.folds} folds, found {self.fold}")
        if self.folds and self.validation:
            raise ValueError("validation: expected none beside folds, which are parts of `train`")
        for key in ("epochs", "batch", "size", "threads"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected at least 1, found {getattr(self, key)}")


def read_config(path: str | Path) -> Config:
    with Path(path).open("rb") as file:
        values = tomllib.load(file)
    known = {field.name: field for field in dataclasses.fields(Config)}
    if unknown := set(values) - set(known):
        raise ValueError(f"{path}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
    if values.get("folds"):
        values.setdefault("validation", "")
    required = {name for name, field in known.items() if field.default is dataclasses.MISSING}
    if missing := required - set(values):
        raise ValueError(f"{path}: missing keys {sorted(missing)}")
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        kinds = str(known[key].type).removeprefix("<class '").removesuffix("'>").split(" | ")
        if isinstance(value, list):
            value = tuple(value)
        elif isinstance(value, str) and "str" not in kinds and any(kind.startswith("tuple[str") for kind in kinds):
            value = (value,)  # one for a list of one
        if not any(is_of_kind(value, kind) for kind in kinds):
            wanted = " or ".join(kind.replace("tuple[", "a list of ").replace(", ...]", "") for kind in kinds)
            wanted = wanted.replace("dict[str, typing.Any]", "a table")
            raise ValueError(f"{path}: {key}: expected {wanted}, found {value!r}")
        arguments[key] = value
    return Config(**arguments)


def is_of_kind(value: object, kind: str) -> bool:
    """Whether a value is what an annotation says: a word of Python's, or a tuple of them."""
    if kind.startswith("tuple["):
        element = kind.removeprefix("tuple[").split(",")[0]
        return isinstance(value, tuple) and all(is_of_kind(v, element) for v in value)
    kind = "dict" if kind.startswith("dict[") else kind
    words: dict[str, Any] = {"bool": bool, "int": int, "float": (int, float), "str": str, "dict": dict}
    return kind in words and isinstance(value, words[kind]) and isinstance(value, bool) == (kind == "bool")


def labels_of(network: AwsNet) -> Labels:
    """The labels of the heads that `fit` trains."""
    found: dict[str, tuple[str, ...]] = {}
    for head in network.structure.heads:
        if HEADS.get(head.name) == head.kind:
            found[head.name] = head.labels or ()
    return Labels(found.get("emotion", ()), found.get("au", ()), found.get("values", ()))


def chosen_labels(config: Config) -> Labels:
    """The labels of a network that is built anew."""
    brought = found_labels(config.train) if config.train and None in (config.emotions, config.aus) else None
    brought = brought or Labels(tuple(EMOTIONS), tuple(AUS))
    return Labels(
        brought.emotions if config.emotions is None else config.emotions,
        brought.aus if config.aus is None else config.aus,
        config.values,
    )


def build(config: Config) -> AwsNet:
    """The network that a training begins with."""
    torch.manual_seed(config.seed)
    name = "shared trunk" if config.shared_trunk else f"{config.arch}, aws {config.aws}"
    if config.init:
        network = initial(config)
    else:
        labels = chosen_labels(config)
        if not labels.emotions and not labels.aus:
            raise ValueError(f"{config.train}: expected labels of emotions or AUs, found none; set emotions or aus")
        network = architecture(
            config.arch, labels.emotions, labels.aus, config.size, config.widths, config.aws, config.units, name
        )
    if config.values:
        network = with_values(network, config.values, config.values_branch)
    network.manifest["name"] = config.name or network.manifest.get("name", name)
    for key in ("face", "about"):
        if getattr(config, key) is not None:
            network.manifest = newest(network.manifest) | {key: getattr(config, key)}
    network.check()
    if config.shared_trunk:
        share_trunk(network)
    return network


def initial(config: Config) -> AwsNet:
    """A network that goes on from model files; heads whose labels are other ones begin anew."""
    networks = [load_model(path) for path in config.init]
    if config.copied_as is not None:
        of_branch = {"emotion": config.emotions or EMOTIONS, "au": config.aus or AUS}[config.copied_as]
        networks.append(as_branch(networks[0], config.copied_as, HEADS[config.copied_as], of_branch))
    if len(networks) == 2:
        network = join_models(networks[0], networks[1], config.aws, config.units)
        for branch in set(config.freeze) & set(BRANCHES):
            leave_alone(network, branch)
    else:
        network = networks[0]
        if config.aws == "none" and len(network.structure.branches) == 2:
            network = with_units(network, "none", "none")
    manifest = newest(network.manifest)
    for head, labels in (("emotion", config.emotions), ("au", config.aus)):
        if labels is None:
            continue
        if head not in manifest["heads"]:
            raise ValueError(f"{head}: expected no labels, for {', '.join(config.init)} has no head {head}")
        entry = manifest["heads"][head]
        if entry["kind"] != HEADS[head]:
            raise ValueError(f"{head}: expected a head of the kind {HEADS[head]}, found {entry['kind']}")
        if list(labels) != entry["labels"]:
            if network.heads().get(head) is None:
                raise ValueError(f"{head}: expected the labels of the file, whose head has no tensor")
            manifest["heads"][head] = entry | {"labels": list(labels)}
            if head == "au":
                manifest["heads"][head]["thresholds"] = [0.5] * len(labels)
    return network.rebuilt(oldest(manifest))


def with_values(network: AwsNet, values: tuple[str, ...], branch: str) -> AwsNet:
    """The network with a head `values`, where it has none of these labels, beside the first head of a branch."""
    manifest = newest(network.manifest)
    beside = next((head for head in network.structure.heads if head.branch == branch), None)
    if beside is None:
        raise ValueError(f"values_branch: expected one of {', '.join(network.structure.branches)}, found {branch!r}")
    layers = {layer.name for layer in network.structure.layers}
    tensor = "values" if "values" not in layers else "values_head"
    head = {"branch": branch, "input": beside.input, "tensor": tensor, "kind": "values", "labels": list(values)}
    manifest["heads"]["values"] = manifest["heads"].get("values", head) | {"labels": list(values)}
    return network.rebuilt(manifest)


def device_of(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        found = str(error).splitlines()[0]
        raise ValueError(f"device: expected one that PyTorch can use here, found {name!r}: {found}") from error


@torch.inference_mode()
def predict(network: AwsNet, data: Dataset, batch: int = 250) -> Logits:
    """The logits of all images, on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network(network.normalise(pixels.to(device))) for pixels, _ in data.batches(range(len(data)), min(batch, 250))
    ]
    return Logits({name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0].names})


def evaluate(network: AwsNet, data: Dataset) -> Metrics:
    logits, labels = predict(network, data), labels_of(network)
    emotion = au = values = None
    if labels.emotions:
        emotion = logits.emotion.argmax(1).numpy()
    if labels.aus:
        thresholds = network.manifest["heads"]["au"].get("thresholds", [0.5] * len(labels.aus))
        au = (logits.au.sigmoid() >= torch.tensor(thresholds)).numpy()
    if labels.values:
        values = logits["values"].numpy()
    predicted = Predicted(emotion, au, values)
    return measure(predicted, data.annotations, len(labels.emotions), labels.aus, labels.values)


def train_epoch(
    network: AwsNet,
    optimiser: torch.optim.Optimizer,
    data: Dataset,
    config: Config,
    epoch: int,
    progress: Any,  # noqa: ANN401
) -> float:
    """One pass over the images in an order of its own; the mean loss."""
    generator = torch.Generator().manual_seed(config.seed * 10_000 + epoch)
    order = torch.randperm(len(data), generator=generator).tolist()
    batches = len(data) // config.batch
    steps = config.epochs * batches
    device = next(network.parameters()).device
    weights = Weights()
    if config.class_weights == "balanced":
        weights = balanced(data.annotations, len(labels_of(network).emotions)).to(device)
    network.train()
    total = 0.0
    chosen = data.batches(order[: batches * config.batch], config.batch)
    for step, (pixels, annotations) in enumerate(chosen, epoch * batches):
        warm_up = min(1.0, (step + 1) / (0.05 * steps))
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))
        images = network.normalise(augment(config.augment, pixels, generator).to(device))
        known: Annotations = annotations.to(device)
        loss = partial_loss(network(images), known, config.au_weight, config.values_weight, weights)
        if not math.isfinite(loss.item()):
            raise ValueError(f"epoch {epoch + 1}: expected a finite loss, found {loss.item()}; lower lr")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.item()
        progress.update()
    return total / batches


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load(config: Config, source: str, network: AwsNet) -> Dataset:
    image = network.structure.input
    return load_dataset(
        source, labels_of(network), (image.width, image.height), image.channels, config.au_active, config.threads
    )


def fit(config: Config) -> tuple[AwsNet, dict[str, Any]]:
    """Trains, or goes on training where a checkpoint of the same config lies in `out`; the network and its metrics.

    With folds, and none of them chosen, every fold in a folder of its own; then it is the network of the last one, and
    the metrics of all.
    """
    if config.folds and config.fold is None:
        return fit_folds(config)
    if not config.folds and not config.validation:
        raise ValueError("validation: expected images, or folds of `train`")
    torch.set_num_threads(config.threads)
    device = device_of(config.device)
    network = build(config)
    train = load(config, config.train, network)
    if config.limit is not None:
        train = train.first(config.limit)
    if config.folds:
        parts = subject_folds(train, config.folds)
        held = parts[config.fold or 0]
        validation = train.subset(held)
        train = train.subset(sorted(set(range(len(train))) - set(held)))
    else:
        validation = load(config, config.validation, network)
    if len(train) < config.batch:
        raise ValueError(f"{config.train}: expected at least one batch of {config.batch} images, found {len(train)}")

    network = network.to(device).to(memory_format=torch.channels_last)
    freeze(network, *config.freeze)
    groups = parameter_groups(network, config.lr, config.weight_decay, config.unit_lr_multiplier)
    if not groups:
        raise ValueError(f"freeze: expected something that is left to train, found nothing beside {config.freeze}")
    optimiser = torch.optim.AdamW([group | {"initial_lr": group["lr"]} for group in groups])
    history: dict[str, list[float]] = {"training loss": []}
    history |= {name: [] for name in measures(network)}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        if state["config"] != json.dumps(dataclasses.asdict(config)):
            raise ValueError(f"{checkpoint}: belongs to another config; remove it to start anew")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        history = state["history"]

    first, steps = len(history["training loss"]), len(train) // config.batch
    with tqdm(total=config.epochs * steps, initial=first * steps, desc="fit", unit="batch") as progress:
        for epoch in range(first, config.epochs):
            loss = train_epoch(network, optimiser, train, config, epoch, progress)
            measured = measures(network, evaluate(network, validation))
            history["training loss"].append(loss)
            for name, value in measured.items():
                history[name].append(value)
            progress.set_postfix(loss=f"{loss:.3f}", **{name: f"{value:.3f}" for name, value in measured.items()})
            save_checkpoint(
                checkpoint,
                {
                    "config": json.dumps(dataclasses.asdict(config)),
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "history": history,
                },
            )

    if config.thresholds == "validation" and labels_of(network).aus:
        scores = predict(network, validation).au.sigmoid().numpy()
        chosen = best_thresholds(scores, validation.annotations.au.numpy())
        network.manifest["heads"]["au"]["thresholds"] = chosen
    results = {"config": dataclasses.asdict(config), "validation": dataclasses.asdict(evaluate(network, validation))}
    if config.test is not None:
        results["test"] = dataclasses.asdict(evaluate(network, load(config, config.test, network)))
    save_model(network, out / "model.safetensors", DTYPES[config.dtype])
    (out / "metrics.json").write_text(json.dumps(results, indent=1) + "\n")
    losses = {"training loss": history["training loss"]}
    draw_curves(losses, {k: v for k, v in history.items() if k not in losses}, out / "curves.png",
                f"{network.manifest['name']}: validation")  # fmt: skip
    return network.eval(), results


def measures(network: AwsNet, metrics: Metrics | None = None) -> dict[str, float]:
    """What the curves show, of the heads that there are."""
    labels, found = labels_of(network), {}
    nan = float("nan")
    if labels.emotions:
        found["emotion accuracy"] = metrics.emotion_accuracy if metrics else nan
    if labels.aus:
        found["mean AU F1"] = metrics.au_mean_f1 if metrics else nan
    if labels.values:
        found["mean CCC"] = mean_of(metrics.values_ccc.values()) if metrics else nan
    return found


def fit_folds(config: Config) -> tuple[AwsNet, dict[str, Any]]:
    """Every fold in a folder of its own below `out`; mean and standard deviation of what they measure in folds.json."""
    runs = []
    for fold in range(config.folds):
        out = str(Path(config.out) / f"fold-{fold}")
        print(f"fold {fold + 1} of {config.folds}", flush=True)
        network, results = fit(dataclasses.replace(config, fold=fold, out=out))
        runs.append(measures(network, Metrics(**results["validation"])))
    table = {name: [run[name] for run in runs] for name in runs[0]}
    summary = {
        "folds": runs,
        "mean": {name: mean_of(values) for name, values in table.items()},
        "deviation": {name: float(np.nanstd(values, ddof=1)) for name, values in table.items()},
    }
    (Path(config.out) / "folds.json").write_text(json.dumps(summary, indent=1) + "\n")
    return network, summary
