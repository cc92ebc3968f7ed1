"""The comparison of sharing strategies: every strategy with every seed, on the same images."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from .fit import Config, fit

STRATEGIES: dict[str, dict[str, Any]] = {
    "two single-task networks": {"aws": "none"},
    "hard-shared trunk": {"aws": "none", "shared_trunk": True},
    "cross-stitch (layer)": {"aws": "layer"},
    "AWS-Unit per channel": {"aws": "channel"},
    "gate unit": {"aws": "gate"},
}
MEASURES = {"emotion_accuracy": "emotion accuracy", "emotion_macro_f1": "emotion macro-F1", "au_mean_f1": "mean AU F1"}


def compare(config: Config, seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Runs what is not there yet, one seed of all strategies after the other; every run in a folder below `out`."""
    if config.test is None:
        raise ValueError("test: expected a folder of faces, for strategies are compared on it")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in STRATEGIES}
    for seed in range(seeds):
        for name, keys in STRATEGIES.items():
            out = Path(config.out) / f"{name.split(' (')[0].replace(' ', '-')}-{seed}"
            metrics = out / "metrics.json"
            if not metrics.exists():
                print(f"{name}, seed {seed}", flush=True)
                fit(dataclasses.replace(config, **keys, seed=seed, out=str(out)))
            results[name].append(json.loads(metrics.read_text()))
    return results


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Mean and standard deviation over the seeds, as a table in Markdown."""
    lines = ["| strategy | " + " | ".join(MEASURES.values()) + " |", "| --- |" + " --- |" * len(MEASURES)]
    for name, runs in results.items():
        values = np.array([[run["test"][key] for key in MEASURES] for run in runs])
        mean, deviation = values.mean(0), values.std(0, ddof=1) if len(runs) > 1 else np.zeros(len(MEASURES))
        cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
