"""The tables of `awsnet predict --csv` as pandas reads them: every column has its type."""

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
AWSNET = Path(os.environ.get("AWSNET_COMMAND", ROOT / "target" / "release" / "awsnet"))
MODEL = ROOT / "models" / "demo.safetensors"
GROUP = ROOT / "examples" / "group.png"
AUS = ["AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12", "AU15", "AU16", "AU17", "AU20", "AU23"]
EMOTIONS = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
RECTANGLE = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"]


def predict(*arguments: str | Path, frames: bytes | None = None) -> None:
    assert AWSNET.exists(), f"{AWSNET}: expected the command (AWSNET_COMMAND names another), found nothing"
    words = [AWSNET, "predict", MODEL, "--detect", "--device", "cpu", *arguments]
    subprocess.run(words, check=True, input=frames, stderr=subprocess.DEVNULL)


def ground(folder: Path) -> Path:
    """A picture without a face, whose name needs quotes."""
    path = folder / 'the sea, "calm".bmp'
    width, height = 64, 48
    pixels = bytes([112, 104, 96]) * (width * height)
    header = b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little")
    path.write_bytes(header + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24) + pixels)
    return path


def video(count: int) -> bytes:
    """Y4M frames without a face."""
    frame = b"FRAME\n" + bytes([128]) * (64 * 48)
    return b"YUV4MPEG2 W64 H48 F25:1 Cmono\n" + count * frame


@pytest.fixture
def sea(tmp_path: Path) -> Path:
    return ground(tmp_path)


def test_py_feats_columns_are_numbers_and_a_picture_without_a_face_has_none(tmp_path: Path, sea: Path) -> None:
    out = tmp_path / "faces.csv"
    predict("--csv", "-o", out, GROUP, sea)
    table = pd.read_csv(out)
    assert [*table.columns[:5]] == RECTANGLE
    assert {*AUS, *EMOTIONS} <= {*table.columns}
    numbers = table.columns.drop(["input", "frame"])
    assert (table[numbers].dtypes == "float64").all(), table.dtypes
    assert table["frame"].dtype == "int64"
    assert [*table["input"]] == [str(GROUP)] * 9 + [str(sea)]
    faces, empty = table[table["input"] == str(GROUP)], table[table["input"] == str(sea)]
    assert faces.notna().all(axis=None) and empty[numbers].isna().all(axis=None)
    assert faces[AUS].ge(0).all(axis=None) and faces[AUS].le(1).all(axis=None)
    assert faces[EMOTIONS].sum(axis=1).sub(1).abs().max() < 1e-5


def test_openfaces_columns_have_its_types(tmp_path: Path, sea: Path) -> None:
    out = tmp_path / "faces.csv"
    predict("--csv=openface", "-o", out, GROUP, sea)
    table = pd.read_csv(out, skipinitialspace=True)
    assert [*table.columns[:5]] == ["frame", "face_id", "timestamp", "confidence", "success"]
    whole = ["frame", "face_id", "success", *(f"{au}_c" for au in AUS)]
    assert (table[whole].dtypes == "int64").all(), table.dtypes
    assert table["confidence"].dtype == "float64"
    assert [*table["success"]] == [1] * 9 + [0]
    assert [*table["face_id"]] == [*range(9), 0]
    assert table[[f"{au}_c" for au in AUS]].isin([0, 1]).all(axis=None)
    assert not [column for column in table.columns if column.endswith("_r")]


@pytest.mark.parametrize("columns", ["py-feat", "openface"])
def test_frames_of_a_video_have_numbers_and_times(tmp_path: Path, columns: str) -> None:
    out = tmp_path / "frames.csv"
    predict(f"--csv={columns}", "-o", out, "-", frames=video(3))
    table = pd.read_csv(out, skipinitialspace=True)
    first = 1 if columns == "openface" else 0
    assert [*table["frame"]] == [first, first + 1, first + 2] and table["frame"].dtype == "int64"
    if columns == "openface":
        assert [*table["timestamp"]] == [0.0, 0.04, 0.08]
        assert [*table["success"]] == [0, 0, 0]
