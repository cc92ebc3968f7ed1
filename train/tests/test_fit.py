"""Training and what is measured; the networks are as small as they get."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from awsnet_train import UNKNOWN, Annotations, load_model
from awsnet_train.__main__ import main
from awsnet_train.augment import moved, photographed
from awsnet_train.compare import STRATEGIES, compare, table
from awsnet_train.dataset import Labels, load_dataset
from awsnet_train.faces.actions import AUS, EMOTIONS
from awsnet_train.fit import Config, build, fit, read_config, train_epoch
from awsnet_train.metrics import Predicted, f1, measure


def tiny(faces: Path, out: Path, **keys: object) -> Config:
    return dataclasses.replace(Config(str(faces), str(faces), str(out), widths=(4, 6), epochs=3, batch=32), **keys)


def test_a_training_that_was_stopped_ends_like_one_that_was_not(faces, tmp_path, monkeypatch):
    whole, _ = fit(tiny(faces, tmp_path / "whole", aws="gate"))

    def stop_in_the_third_epoch(network, optimiser, data, config, epoch, progress):
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(network, optimiser, data, config, epoch, progress)

    stopped = tiny(faces, tmp_path / "stopped", aws="gate")
    with monkeypatch.context() as patch:
        patch.setattr("awsnet_train.fit.train_epoch", stop_in_the_third_epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(stopped)
    assert not (tmp_path / "stopped/model.safetensors").exists()
    resumed, _ = fit(stopped)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_config_is_refused(faces, tmp_path):
    fit(tiny(faces, tmp_path, epochs=1))
    with pytest.raises(ValueError, match=r"checkpoint\.pt: belongs to another config"):
        fit(tiny(faces, tmp_path, epochs=1, lr=0.1))


def test_a_training_leaves_model_metrics_and_curves(faces, tmp_path):
    network, results = fit(tiny(faces, tmp_path, test=str(faces), dtype="f16"))
    loaded = load_model(tmp_path / "model.safetensors")
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["test"] == results["test"]
    assert set(written["test"]["au_f1"]) == set(AUS)
    assert Image.open(tmp_path / "curves.png").size == (720, 320)


def test_training_learns(faces, tmp_path):
    """The loss falls by far more than chance on images it has seen."""
    fit(tiny(faces, tmp_path, widths=(8, 12, 16), epochs=15, lr=5e-3, aws="channel"))
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    losses = checkpoint["history"]["training loss"]
    assert losses[-1] < 0.6 * losses[0]


def test_seeds_differ_and_repeat(tmp_path):
    first, again, other = (build(Config("", "", "", seed=seed)).state_dict() for seed in (1, 1, 2))
    key = "au.stage1.conv1.weight"
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])


def test_the_comparison_runs_every_strategy_once_and_fills_its_table(faces, tmp_path):
    config = tiny(faces, tmp_path, epochs=1, test=str(faces))
    results = compare(config, seeds=2)
    assert {name: len(runs) for name, runs in results.items()} == dict.fromkeys(STRATEGIES, 2)
    before = (tmp_path / "gate-unit-1/model.safetensors").stat().st_mtime_ns
    assert compare(config, seeds=2) == results  # from the metrics that are there
    assert (tmp_path / "gate-unit-1/model.safetensors").stat().st_mtime_ns == before
    measures = ("emotion_accuracy", "emotion_macro_f1", "au_mean_f1")
    made = {"a": [{"test": dict.fromkeys(measures, value)} for value in (0.5, 0.7)]}
    assert "| a | 0.600 ± 0.141 | 0.600 ± 0.141 | 0.600 ± 0.141 |" in table(made)


@pytest.mark.parametrize(("text", "message"), [
    ("epochs = 3", r"missing keys \['out', 'train', 'validation'\]"),
    ('train = "a"\nvalidation = "b"\nout = "c"\nepoch = 3', r"unknown keys \['epoch'\]"),
    ('train = "a"\nvalidation = "b"\nout = "c"\naws = "attention"', "aws: expected one of none, .* 'attention'"),
    ('train = "a"\nvalidation = "b"\nout = "c"\ndtype = "f8"', "dtype: expected one of f32, f16, bf16, found 'f8'"),
    ('train = "a"\nvalidation = "b"\nout = "c"\nshared_trunk = true', "shared_trunk: expected aws"),
])  # fmt: skip
def test_a_faulty_config_is_refused_by_name(text, message, tmp_path):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / "config.toml")


def test_the_configs_of_this_folder_are_valid():
    configs = sorted(Path(__file__).parents[1].glob("configs/*.toml"))
    assert len(configs) == 3
    for path in configs:
        read_config(path)


def test_partial_annotations_are_read_as_unknown(faces):
    data = load_dataset(faces, Labels(tuple(EMOTIONS), tuple(AUS)), (64, 64))
    emotion, au, _ = data.annotations
    assert (emotion[::2] != UNKNOWN).all()
    assert (emotion[1::2] == UNKNOWN).all()
    assert au[::2].isnan().all()
    assert 0.05 < au[1::2].isnan().float().mean() < 0.4


def test_a_label_that_the_network_lacks_is_refused(faces):
    with pytest.raises(ValueError, match=r"labels\.jsonl:\d+: labels that the network does not have: \['AU1'\]"):
        load_dataset(faces, Labels(tuple(EMOTIONS), tuple(AUS[1:])), (64, 64))


def test_augmentation_moves_and_mirrors_but_keeps_the_picture():
    pixels = torch.arange(6, dtype=torch.uint8).repeat(50, 6, 1)[..., None].repeat(1, 1, 1, 3) * 40
    other = moved(pixels, torch.Generator().manual_seed(0), shift=0)
    rising = (other[:, 0, 1:-1, 0].int().diff(dim=1) >= 0).all(1)
    assert 0 < rising.sum() < 50
    assert other.shape == pixels.shape


@pytest.mark.parametrize(("height", "width", "channels"), [(112, 112, 3), (64, 48, 3), (9, 14, 1)])
def test_photographed_pictures_are_other_ones_of_the_same_thing(height, width, channels):
    """Left dark, right bright, whatever the light; some images are grey, and the same seed is the same view."""
    pixels = torch.full((64, height, width, channels), 40, dtype=torch.uint8)
    pixels[:, :, width // 2 :] = 200
    seen = photographed(pixels, torch.Generator().manual_seed(5))
    assert (seen.shape, seen.dtype) == (pixels.shape, torch.uint8)
    assert torch.equal(seen, photographed(pixels, torch.Generator().manual_seed(5)))
    halves = seen.float()[:, :, : width // 3].mean((1, 2, 3)), seen.float()[:, :, -(width // 3) :].mean((1, 2, 3))
    brighter = (halves[1] - halves[0]).abs() > 20  # a mirrored image is bright on the left
    assert brighter.float().mean() > 0.9
    if channels == 3:
        grey = (seen.float().std(3) < 1).all(2).all(1)
        assert 3 <= grey.sum() <= 30


def test_f1_by_hand():
    predicted, annotated = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 1], bool)
    assert f1(predicted, annotated) == pytest.approx(4 / 6)
    assert math.isnan(f1(np.zeros(3, bool), np.zeros(3, bool)))


def test_metrics_count_only_what_is_annotated():
    predicted = Predicted(
        emotion=np.array([0, 1, 1, 0]),
        au=np.array([[1, 0], [1, 1], [0, 0], [1, 1]], bool),
        values=np.array([[0.0], [1.0], [2.0], [9.0]], np.float32),
    )
    nan = math.nan
    annotations = Annotations(
        torch.tensor([0, 1, 0, UNKNOWN]),
        torch.tensor([[1, 0], [nan, 1], [1, 0], [0, nan]]),
        torch.tensor([[0.5], [1.0], [1.5], [nan]]),
    )
    metrics = measure(predicted, annotations, 2, ["AU1", "AU2"], ["valence"])
    assert metrics.values_mae == {"valence": pytest.approx(1 / 3)}
    assert metrics.values_ccc == {"valence": pytest.approx(2 * (1 / 3) / (2 / 3 + 1 / 6))}
    assert metrics.confusion == [[1, 1], [0, 1]]
    assert metrics.emotion_accuracy == pytest.approx(2 / 3)
    assert metrics.emotion_macro_f1 == pytest.approx(2 / 3)
    assert metrics.au_f1 == {"AU1": pytest.approx(0.5), "AU2": pytest.approx(1.0)}
    assert metrics.au_mean_f1 == pytest.approx(0.75)


def test_the_commands_end_in_one_line_on_a_fault(tmp_path, capsys):
    def call(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        return code, capsys.readouterr().err

    out = tmp_path / "x"
    written = ("faces", "--out", str(out), "--count", "2", "--size", "32", "--identities", "5:7")
    assert call(*written)[0] == 0
    assert call(*written) == (1, f"error: {out}: is not empty\n")
    code, said = call("fit", "--config", str(tmp_path / "none.toml"))
    assert (code, said.count("\n")) == (1, 1)
    with pytest.raises(SystemExit, match="2"):
        main(["faces", "--out", "y", "--count", "1", "--identities", "7:5"])


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "awsnet_train", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "faces" in done.stdout
