"""A user's own data: sources, labels, subjects, thresholds, and what a training makes of them."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from awsnet_train import Annotations, ModelError, from_modules, load_model, save_model, small
from awsnet_train import dataset as module
from awsnet_train.dataset import Labels, found_labels, load_dataset, subject_folds
from awsnet_train.fit import Config, build, fit, read_config
from awsnet_train.losses import UNKNOWN, balanced
from awsnet_train.metrics import best_thresholds

NAN = math.nan


def picture(path: Path, value: int, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three classes, six images each, in two kinds of file and one folder below."""
    for index, emotion in enumerate(("calm", "cross", "glad")):
        for number in range(6):
            ending = ".png" if number % 2 else ".jpg"
            below = "more/" if number == 5 else ""
            picture(tmp_path / f"classes/{emotion}/{below}{number}{ending}", 40 + 80 * index)
    (tmp_path / "classes/glad/notes.txt").write_text("no image")
    return tmp_path / "classes"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 images of six subjects, with intensities from 0 to 5, valence, and gaps."""
    lines = ["image,subject,emotion,AU1,AU12,valence,frame"]
    for number in range(24):
        picture(tmp_path / f"faces/{number}.png", 10 * number)
        emotion = "" if number % 4 == 3 else ("calm", "glad")[number % 2]
        intensity = "" if number % 5 == 4 else number % 6
        valence = "" if number == 7 else f"{number / 12 - 1:.3f}"
        lines.append(f"faces/{number}.png,s{number % 6},{emotion},{intensity},{5 - number % 6},{valence},{number}")
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "faces.csv"


def test_a_folder_a_class(folders: Path):
    assert found_labels(folders) == Labels(("calm", "cross", "glad"))
    data = load_dataset(folders, Labels(("glad", "cross", "calm")), (8, 6))
    assert len(data) == 18
    assert data.annotations.emotion.tolist() == [2] * 6 + [1] * 6 + [0] * 6
    assert data.pixels([0, 17]).shape == (2, 6, 8, 3)
    with pytest.raises(ValueError, match=r"calm.*labels that the network does not have: \['calm'\]"):
        load_dataset(folders, Labels(("glad", "cross")), (8, 6))


def test_a_csv_file_with_gaps(table: Path, caplog: pytest.LogCaptureFixture):
    assert found_labels(table) == Labels(("calm", "glad"), ("AU1", "AU12"))
    labels = Labels(("calm", "glad"), ("AU1", "AU12"), ("valence", "AU12"))
    data = load_dataset(table, labels, (8, 8), au_active=2)
    assert "columns that are no labels of the network: frame" in caplog.text
    assert data.annotations.emotion[:4].tolist() == [0, 1, 0, UNKNOWN]
    expected = torch.tensor([[0.0, 1], [0, 1], [1, 1], [1, 1], [NAN, 0], [1, 0]])
    torch.testing.assert_close(data.annotations.au[:6], expected, equal_nan=True)
    values = data.annotations.values
    assert values is not None
    assert values[7, 0].isnan()
    assert values[:6, 1].tolist() == [5, 4, 3, 2, 1, 0]
    assert load_dataset(table, labels, (8, 8)).annotations.au[1, 0] == 1  # above 0


@pytest.mark.parametrize(("line", "message"), [
    ("faces/0.png,s,calm,high,0,0,", r"faces\.csv:2: AU1: expected a finite number, found 'high'"),
    ("faces/0.png,s,calm,nan,0,0,", r"AU1: expected a finite number, found 'nan'"),
    (",s,calm,1,0,0,", "image: expected a path, found nothing"),
    ("faces/0.png,s,cheerful,1,0,0,", r"labels that the network does not have: \['cheerful'\]"),
    ("faces/0.png,s,,,,,", "expected annotations of .*found none in 1 images"),
])  # fmt: skip
def test_faults_of_a_csv_file_are_refused_by_line(line: str, message: str, tmp_path: Path):
    picture(tmp_path / "faces/0.png", 0)
    (tmp_path / "faces.csv").write_text(f"image,subject,emotion,AU1,AU12,valence,frame\n{line}\n")
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "faces.csv", Labels(("calm", "glad"), ("AU1", "AU12"), ("valence",)), (8, 8))


def test_other_faults_of_sources(tmp_path: Path):
    with pytest.raises(ValueError, match="expected a folder or a CSV file, found nothing"):
        load_dataset(tmp_path / "none", Labels(("calm",)), (8, 8))
    with pytest.raises(ValueError, match="expected images, found none"):
        load_dataset(tmp_path, Labels(("calm",)), (8, 8))
    (tmp_path / "a.csv").write_text("path,emotion\nx.png,calm\n")
    with pytest.raises(ValueError, match=r"a\.csv:1: expected a column image, found path, emotion"):
        load_dataset(tmp_path / "a.csv", Labels(("calm",)), (8, 8))
    (tmp_path / "calm").mkdir()
    (tmp_path / "calm/x.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"x\.png: expected an image that can be read"):
        load_dataset(tmp_path, Labels(("calm",)), (8, 8)).pixels([0])


def test_images_are_upright_and_in_the_network_s_channels(tmp_path: Path):
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    (tmp_path / "calm").mkdir()
    image.save(tmp_path / "calm/x.png", exif=exif)
    data = load_dataset(tmp_path, Labels(("calm",)), (2, 4), channels=1)
    pixels = data.pixels([0])
    assert pixels.shape == (1, 4, 2, 1)
    assert pixels[0, 0, 1, 0] == 255


def test_images_are_not_all_kept_where_they_are_many(folders: Path, monkeypatch: pytest.MonkeyPatch):
    few = load_dataset(folders, Labels(("calm", "cross", "glad")), (8, 8), threads=3)
    first = few.pixels(range(18))
    assert len(few.kept) == 18
    monkeypatch.setattr(module, "MOST_KEPT_BYTES", 1000)
    many = load_dataset(folders, Labels(("calm", "cross", "glad")), (8, 8))
    assert torch.equal(many.pixels(range(18)), first)
    assert len(many.kept) == 0
    batches = [pixels for pixels, _ in many.subset([3, 1, 17]).batches([2, 0, 1], 2)]
    assert torch.equal(torch.cat(batches), first[[17, 3, 1]])


def test_a_subject_is_in_one_fold_alone(table: Path):
    data = load_dataset(table, Labels(("calm", "glad")), (8, 8))
    parts = subject_folds(data, 3)
    assert sorted(index for part in parts for index in part) == list(range(24))
    subjects = [{data.subjects[index] for index in part} for part in parts]
    assert [len(s) for s in subjects] == [2, 2, 2]
    assert set.union(*subjects) == {f"s{n}" for n in range(6)}
    with pytest.raises(ValueError, match="folds: expected at least 7 subjects, found 6"):
        subject_folds(data, 7)
    with pytest.raises(ValueError, match=r"expected a subject for every image, found none for a\.png"):
        subject_folds(dataclasses.replace(data, subjects=[None] * 24, images=["a.png"] * 24), 2)


def test_rare_classes_weigh_more():
    annotations = Annotations(torch.tensor([0, 0, 0, 1, UNKNOWN]), torch.tensor([[1.0], [0], [0], [0], [NAN]]))
    weights = balanced(annotations, 3)
    assert weights.emotion is not None
    assert weights.au is not None
    torch.testing.assert_close(weights.emotion, torch.tensor([4 / 6, 2.0, 1.0]))
    torch.testing.assert_close(weights.au, torch.tensor([3.0]))
    counted = weights.emotion[annotations.emotion[:4]].mean()
    torch.testing.assert_close(counted, torch.tensor(1.0))


def test_thresholds_have_the_best_f1():
    scores = np.array([[0.9, 0.2, 0.5], [0.8, 0.1, 0.5], [0.3, 0.4, 0.5], [0.2, 0.3, 0.5]], np.float32)
    annotated = np.array([[1, 0, 1], [1, 0, 0], [0, 1, NAN], [1, NAN, 0]], np.float32)
    thresholds = best_thresholds(scores, annotated)
    # All but the third of the first AU: F1 of 6/7; the second's score of 0.4 alone; equal scores go together.
    assert thresholds == pytest.approx([0.1, 0.3, 0.25])
    assert best_thresholds(scores[:, :1], np.zeros((4, 1), np.float32)) == [0.5]


def tiny(source: Path, out: Path, **keys: object) -> Config:
    values = {"widths": (4, 6), "epochs": 1, "batch": 4, "size": 16} | keys
    return Config(str(source), str(source) if not keys.get("folds") else "", str(out), **values)


def test_a_training_on_a_folder_a_class_makes_a_network_of_one_branch(folders: Path, tmp_path: Path):
    network, results = fit(tiny(folders, tmp_path / "out", dtype="bf16", class_weights="balanced"))
    assert network.structure.branches == ("emotion",)
    assert network.structure.heads[0].labels == ("calm", "cross", "glad")
    assert 0 <= results["validation"]["emotion_accuracy"] <= 1
    assert load_model(tmp_path / "out/model.safetensors").structure == network.structure


def test_a_training_on_a_csv_file_with_values_and_thresholds(table: Path, tmp_path: Path):
    config = tiny(
        table, tmp_path / "out", values=("valence", "AU12"), values_branch="au", thresholds="validation", au_active=2.0
    )
    network, results = fit(config)
    heads = {head.name: head for head in network.structure.heads}
    assert (heads["values"].kind, heads["values"].branch, heads["values"].labels) == (
        "values",
        "au",
        ("valence", "AU12"),
    )
    assert network.manifest["version"] == 2
    thresholds = load_model(tmp_path / "out/model.safetensors").manifest["heads"]["au"]["thresholds"]
    assert thresholds == network.manifest["heads"]["au"]["thresholds"] != [0.5, 0.5]
    assert set(results["validation"]["values_ccc"]) == {"valence", "AU12"}


def test_folds_share_no_subject_and_are_summed_up(table: Path, tmp_path: Path):
    _, summary = fit(tiny(table, tmp_path / "out", folds=2))
    assert len(summary["folds"]) == 2
    assert json.loads((tmp_path / "out/folds.json").read_text()).keys() == {"folds", "mean", "deviation"}
    for fold in range(2):
        assert load_model(tmp_path / f"out/fold-{fold}/model.safetensors")


def two_files(folder: Path, size: int = 16, other_mean: float = 0.5) -> tuple[str, str]:
    """Two networks, each trained for one task, as model files of one branch."""
    torch.manual_seed(0)

    def network(rows: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 6, 3, 2, 1), nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, rows),
        ).eval()  # fmt: skip

    keys = {"std": [0.25] * 3, "example": torch.zeros(1, 3, size, size)}
    emotion = from_modules(network(2), None, mean=[0.5] * 3, emotions=["calm", "glad"], **keys)
    au = from_modules(None, network(2), mean=[other_mean] * 3, aus=["AU1", "AU12"], **keys)
    paths = str(folder / "emotion.safetensors"), str(folder / "au.safetensors")
    for net, path in zip((emotion, au), paths, strict=True):
        save_model(net, path)
    return paths


def test_two_single_task_files_are_joined_and_their_units_alone_are_trained(table: Path, tmp_path: Path):
    paths = two_files(tmp_path)
    config = tiny(table, tmp_path / "out", init=paths, units="pairs", freeze=("branches", "heads"), epochs=2, lr=0.05)
    apart, joined = [load_model(path) for path in paths], build(dataclasses.replace(config, aws="none"))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for head, logits in joined(images).items():
            alone = next(net for net in apart if head in net.manifest["heads"])
            torch.testing.assert_close(logits, alone(images)[head])
    network, _ = fit(config)
    begun = build(config).state_dict()
    assert [layer.aws for layer in network.structure.layers].count("channel") == 2
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, begun[name]) != name.startswith("aws."), name


def test_a_branch_begins_as_a_copy_and_the_one_that_is_frozen_says_what_its_file_says(table: Path, tmp_path: Path):
    path = two_files(tmp_path)[0]
    config = tiny(table, tmp_path / "out", init=(path,), copied_as="au", aus=("AU1", "AU12"), units="pairs",
                  freeze=("emotion",), epochs=2, lr=0.05, about={"licence": "MIT"},
                  face={"box": {"scale": 1.3, "shift": [0, -0.08]}})  # fmt: skip
    with pytest.raises(ModelError, match="face"):
        build(dataclasses.replace(config, face={"box": {"scale": 0}}))
    begun = build(config)
    head = begun.manifest["heads"]["au"]["tensor"]
    for name, tensor in begun.state_dict().items():
        if name.startswith("au.") and not name.startswith(f"au.{head}."):
            assert torch.equal(tensor, begun.state_dict()[name.replace("au.", "emotion.", 1)]), name
    network, _ = fit(config)
    manifest = load_model(tmp_path / "out/model.safetensors").manifest
    assert (manifest["about"], manifest["face"]) == (config.about, config.face)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images).emotion, load_model(path)(images).emotion)
    moved = [name for name, tensor in network.state_dict().items() if not torch.equal(tensor, begun.state_dict()[name])]
    assert moved
    assert all(name.startswith(("au.", "aws.")) for name in moved)


def test_files_that_cannot_be_joined_are_refused(tmp_path: Path):
    emotion, au = two_files(tmp_path)
    with pytest.raises(ModelError, match="two branches of different names"):
        build(Config("", "", "", init=(emotion, emotion)))
    (tmp_path / "other").mkdir()
    _, other = two_files(tmp_path / "other", other_mean=0.4)
    with pytest.raises(ModelError, match="`mean`: expected networks that read the same images"):
        build(Config("", "", "", init=(emotion, other)))
    save_model(small(["calm"], [], 16, (4, 6)), tmp_path / "small.safetensors")
    with pytest.raises(ModelError, match=r"layer 0, .*first layer that differs; otherwise each as a model"):
        build(Config("", "", "", init=(str(tmp_path / "small.safetensors"), au)))
    save_model(small(["calm"], ["AU1"], 16, (4, 6)), tmp_path / "both.safetensors")
    with pytest.raises(ModelError, match="one branch in each of the networks to join, found emotion and au"):
        build(Config("", "", "", init=(str(tmp_path / "both.safetensors"), au)))


def test_one_file_goes_on_with_other_labels(tmp_path: Path):
    torch.manual_seed(0)
    net = small(["calm", "glad"], ["AU1"], 16, (4, 6))
    save_model(net, tmp_path / "a.safetensors")
    again = build(Config("", "", "", init=(str(tmp_path / "a.safetensors"),)))
    assert again.manifest == net.manifest
    other = build(Config("", "", "", init=(str(tmp_path / "a.safetensors"),), emotions=("calm", "glad", "sad")))
    assert other.structure.heads[0].labels == ("calm", "glad", "sad")
    for name, tensor in net.state_dict().items():
        if not name.startswith("emotion.fc."):
            assert torch.equal(other.state_dict()[name], tensor), name


def test_a_network_of_torchvision_by_name():
    config = Config("", "", "", arch="mobilenet_v3_small", size=32, emotions=("calm", "glad"), aus=("AU1",))
    network = build(config)
    assert network.structure.branches == ("emotion", "au")
    assert any(layer.aws == "channel" for layer in network.structure.layers)


@pytest.mark.parametrize(("text", "message"), [
    ('emotions = "calm"', None),
    ("emotions = [1]", r"emotions: expected a list of str or None, found \(1,\)"),
    ("epochs = 0", "epochs: expected at least 1, found 0"),
    ("epochs = 1.5", r"epochs: expected int, found 1\.5"),
    ("epochs = true", "epochs: expected int, found True"),
    ("lr = 1", None),
    ('freeze = ["trunk"]', "freeze: expected some of branches, heads, units, emotion, au, found 'trunk'"),
    ('freeze = ["branches", "heads", "units"]', "something that is left to train"),
    ('face = "box"', "face: expected a table or None, found 'box'"),
    ("[about]\nlicence = 'MIT'", None),
    ('freeze = ["emotion", "au"]', "something that is left to train"),
    ('augment = "blurred"', "augment: expected one of moved, photographed, found 'blurred'"),
    ('copied_as = "mouth"', "copied_as: expected one of emotion, au, found 'mouth'"),
    ('copied_as = "au"', "copied_as: expected one model file as init, found 0"),
    ('arch = "resnet_18"', "arch: expected small or a classification network of torchvision, found 'resnet_18'"),
    ('init = ["a", "b", "c"]', "init: expected one or two model files, found 3"),
    ('init = "a"\narch = "resnet18"', "arch: expected none beside init"),
    ("folds = 1", "folds: expected 0, or 2 and more"),
    ("folds = 3", "validation: expected none beside folds"),
    ('thresholds = "best"', "thresholds: expected one of fixed, validation"),
    ('class_weights = "yes"', "class_weights: expected one of none, balanced"),
])  # fmt: skip
def test_the_keys_of_a_config(text: str, message: str | None, tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text(f'train = "a"\nvalidation = "b"\nout = "c"\n{text}\n')
    if message is None:
        read_config(path)
        return
    with pytest.raises(ValueError, match=message):
        read_config(path)


def test_a_device_that_is_not_there_is_refused_by_name(table: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="device: expected one that PyTorch can use here, found 'warp'"):
        fit(tiny(table, tmp_path, device="warp"))
    assert fit(tiny(table, tmp_path, device="auto"))
