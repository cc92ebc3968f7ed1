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

import torch
from torch import Tensor
from tqdm import tqdm

from .architectures import small
from .aws_unit import KINDS
from .curves import draw_curves
from .dataset import Dataset, augment, load_dataset
from .faces.actions import AUS, EMOTIONS
from .losses import Annotations, partial_loss
from .metrics import Metrics, measure
from .model_file import DTYPES, save_model
from .network import AwsNet, Logits, parameter_groups, share_trunk


@dataclass(frozen=True)
class Config:
    """What a training is; the keys of a config file. Paths are relative to where the command runs."""

    train: str  # a folder of faces
    validation: str
    out: str  # a folder for the checkpoint, the model, the metrics and the curves
    test: str | None = None
    name: str | None = None  # of the network; by default the strategy
    limit: int | None = None  # the first images of `train` only
    size: int = 64
    widths: tuple[int, ...] = (12, 24, 48, 64)
    aws: str = "channel"  # none, layer, channel, dense, gate
    shared_trunk: bool = False  # one trunk for both heads
    epochs: int = 20
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-3
    unit_lr_multiplier: float = 5.0
    au_weight: float = 4.0
    seed: int = 0
    threads: int = 1
    dtype: str = "f32"  # of the model file: f32 or f16

    def __post_init__(self) -> None:
        for key, value, expected in (("aws", self.aws, ("none", *KINDS)), ("dtype", self.dtype, tuple(DTYPES))):
            if value not in expected:
                raise ValueError(f"{key}: expected one of {', '.join(expected)}, found {value!r}")
        if self.shared_trunk and self.aws != "none":
            raise ValueError('shared_trunk: expected aws = "none", for one trunk has nothing to mix')


def read_config(path: str | Path) -> Config:
    with Path(path).open("rb") as file:
        values = tomllib.load(file)
    known = {field.name: field for field in dataclasses.fields(Config)}
    if unknown := set(values) - set(known):
        raise ValueError(f"{path}: unknown keys {sorted(unknown)}; known are {sorted(known)}")
    required = {name for name, field in known.items() if field.default is dataclasses.MISSING}
    if missing := required - set(values):
        raise ValueError(f"{path}: missing keys {sorted(missing)}")
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return Config(**arguments)


def build(config: Config) -> AwsNet:
    torch.manual_seed(config.seed)
    name = "shared trunk" if config.shared_trunk else f"small, aws {config.aws}"
    network = small(EMOTIONS, AUS, config.size, config.widths, config.aws, config.name or name)
    if config.shared_trunk:
        share_trunk(network)
    return network


@torch.inference_mode()
def predict(network: AwsNet, pixels: Tensor, batch: int = 250) -> Logits:
    network.eval()
    parts = [network(network.normalise(chunk)) for chunk in pixels.split(batch)]
    return Logits({name: torch.cat([part[name] for part in parts]) for name in parts[0].names})


def evaluate(network: AwsNet, data: Dataset) -> Metrics:
    logits = predict(network, data.pixels)
    head = network.manifest["heads"]["au"]
    thresholds = torch.tensor(head.get("thresholds", [0.5] * len(head["labels"])))
    return measure(
        logits.emotion.argmax(1).numpy(),
        (logits.au.sigmoid() >= thresholds).numpy(),
        data.annotations.emotion.numpy(),
        data.annotations.au.numpy(),
        len(network.manifest["heads"]["emotion"]["labels"]),
        head["labels"],
    )


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
    order = torch.randperm(len(data), generator=generator)
    batches = len(data) // config.batch
    steps = config.epochs * batches
    network.train()
    total = 0.0
    for step, chosen in enumerate(order[: batches * config.batch].split(config.batch), epoch * batches):
        warm_up = min(1.0, (step + 1) / (0.05 * steps))
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * warm_up * 0.5 * (1 + math.cos(math.pi * step / steps))
        images = network.normalise(augment(data.pixels[chosen], generator))
        annotations = Annotations(data.annotations.emotion[chosen], data.annotations.au[chosen])
        loss = partial_loss(network(images), annotations, config.au_weight)
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


def fit(config: Config) -> tuple[AwsNet, dict[str, Any]]:
    """Trains, or goes on training where a checkpoint of the same config lies in `out`; the network and its metrics."""
    torch.set_num_threads(config.threads)
    size = (config.size, config.size)
    train = load_dataset(config.train, list(EMOTIONS), list(AUS), size)
    if config.limit is not None:
        train = train.first(config.limit)
    validation = load_dataset(config.validation, list(EMOTIONS), list(AUS), size)
    if len(train) < config.batch:
        raise ValueError(f"{config.train}: expected at least one batch of {config.batch} images, found {len(train)}")

    network = build(config).to(memory_format=torch.channels_last)
    groups = parameter_groups(network, config.lr, config.weight_decay, config.unit_lr_multiplier)
    optimiser = torch.optim.AdamW([group | {"initial_lr": group["lr"]} for group in groups])
    history: dict[str, list[float]] = {"training loss": [], "emotion accuracy": [], "mean AU F1": []}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["config"] != json.dumps(dataclasses.asdict(config)):
            raise ValueError(f"{checkpoint}: belongs to another config; remove it to start anew")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        history = state["history"]

    first, steps = len(history["training loss"]), len(train) // config.batch
    with tqdm(total=config.epochs * steps, initial=first * steps, desc="fit", unit="batch") as progress:
        for epoch in range(first, config.epochs):
            loss = train_epoch(network, optimiser, train, config, epoch, progress)
            metrics = evaluate(network, validation)
            for name, value in zip(history, (loss, metrics.emotion_accuracy, metrics.au_mean_f1), strict=True):
                history[name].append(value)
            progress.set_postfix(
                loss=f"{loss:.3f}", emotion=f"{metrics.emotion_accuracy:.3f}", au=f"{metrics.au_mean_f1:.3f}"
            )
            save_checkpoint(
                checkpoint,
                {
                    "config": json.dumps(dataclasses.asdict(config)),
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "history": history,
                },
            )

    results = {"config": dataclasses.asdict(config), "validation": dataclasses.asdict(evaluate(network, validation))}
    if config.test is not None:
        test = load_dataset(config.test, list(EMOTIONS), list(AUS), size)
        results["test"] = dataclasses.asdict(evaluate(network, test))
    save_model(network, out / "model.safetensors", DTYPES[config.dtype])
    (out / "metrics.json").write_text(json.dumps(results, indent=1) + "\n")
    losses = {"training loss": history["training loss"]}
    measures = {name: values for name, values in history.items() if name not in losses}
    draw_curves(losses, measures, out / "curves.png", f"{network.manifest['name']}: validation")
    return network.eval(), results
