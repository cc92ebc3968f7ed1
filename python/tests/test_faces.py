"""The detector, and what is cut out: as the command line, whatever a picture lies in."""

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import awsnet
from awsnet import Detector, Engine, Face, Frame

ROOT = Path(__file__).parents[2]
COMMAND = os.environ.get("AWSNET_COMMAND", Path(awsnet.__file__).with_name("bin") / "awsnet")
GROUP = ROOT / "examples/group.png"
PIXELS = np.asarray(Image.open(GROUP).convert("RGB"))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(threads=1)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(awsnet.DEMO, device="cpu", batch=4, threads=1)


def test_every_face_is_what_the_command_says(engine: Engine) -> None:
    command = [COMMAND, "predict", awsnet.DEMO, "--detect", GROUP, "--json", "--device", "cpu"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    found = engine.predict(GROUP, detect=True)
    assert found.faces is not None
    assert len(lines) == found.count == len(found.faces) > 4

    def key(box: tuple[float, ...]) -> tuple[int, ...]:
        return tuple(round(side) for side in box)

    ours = {
        key((face.x, face.y, face.width, face.height)): (face.score, heads)
        for (_, face), heads in zip(found.faces, found.to_dicts(), strict=True)
    }
    for line in lines:
        score, heads = ours[key(line["face"]["box"])]
        assert score == pytest.approx(line["face"]["score"], abs=1e-5)
        assert heads["emotion"]["label"] == line["emotion"]["label"]
        for head in ("emotion", "au"):
            for label, value in line[head]["scores"].items():
                assert heads[head]["scores"][label] == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("picture", "format"),
    [
        pytest.param(lambda p: p, None, id="array"),
        pytest.param(lambda p: p, "rgb", id="rgb"),
        pytest.param(lambda p: np.ascontiguousarray(p[..., ::-1]), "bgr", id="bgr"),
        pytest.param(lambda p: p[..., ::-1].copy()[..., ::-1], None, id="view of bgr"),
        pytest.param(lambda p: np.dstack([p, p[..., :1]]), None, id="rgba"),
        pytest.param(lambda p: np.dstack([p[..., ::-1], p[..., :1]]), "bgra", id="bgra"),
        pytest.param(lambda p: np.pad(p, ((3, 4), (5, 6), (0, 0)))[3:-4, 5:-6], None, id="window"),
        pytest.param(lambda p: np.asfortranarray(p), None, id="Fortran order"),
        pytest.param(Image.fromarray, None, id="PIL"),
        pytest.param(lambda p: GROUP, None, id="path"),
        pytest.param(lambda p: str(GROUP), None, id="str"),
        pytest.param(Frame, None, id="frame"),
    ],
)
def test_a_picture_lies_in_many_things(
    detector: Detector, engine: Engine, picture: Callable[[np.ndarray], Any], format: str | None
) -> None:
    given = picture(PIXELS)
    assert detector.detect(given, format) == detector.detect(PIXELS)
    face = detector.detect(PIXELS)[0]
    np.testing.assert_array_equal(engine.cut(given, face, format), engine.cut(PIXELS, face))


def test_luma_and_chroma_are_a_picture_too(detector: Detector) -> None:
    """BT.601, luma from 16 to 235, of a picture whose colours are gone: the planes of chroma are flat."""
    grey = np.asarray(Image.fromarray(PIXELS).convert("L"))
    luma = np.round(16 + grey * (219 / 255)).astype(np.uint8)
    planar = np.concatenate([luma, np.full((len(grey) // 2, grey.shape[1]), 128, np.uint8)])
    expected = detector.detect(grey)
    assert len(expected) > 4
    for format in ("nv12", "i420"):
        found = detector.detect(planar, format)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert (one.x, one.y, one.width) == pytest.approx((other.x, other.y, other.width), abs=1.5)


def test_faces_of_several_pictures(engine: Engine, detector: Detector) -> None:
    nothing = np.full((90, 120, 3), 99, np.uint8)
    count = len(detector.detect(PIXELS))
    found = engine.predict([nothing, GROUP, PIXELS], detect=detector)
    assert [index for index, _ in found.faces or []] == [1] * count + [2] * count
    for scores in found.values():
        np.testing.assert_array_equal(scores.logits[:count], scores.logits[count:])
    assert engine.predict(nothing, detect=True).count == 0
    assert engine.predict([], detect=True).faces == []


def test_faces_become_a_data_frame(engine: Engine) -> None:
    pytest.importorskip("pandas")
    frame = engine.predict([GROUP], detect=True).to_pandas()
    columns = ["picture", "face_x", "face_y", "face_width", "face_height", "face_score", "emotion"]
    assert list(frame.columns)[:7] == columns
    assert frame["face_score"].between(0.6, 1).all()


def test_smaller_faces_take_closer_looks() -> None:
    wide = np.zeros((PIXELS.shape[0] * 3, PIXELS.shape[1] * 3, 3), np.uint8)
    wide[: PIXELS.shape[0], : PIXELS.shape[1]] = PIXELS
    far, near = (len(Detector(threads=1, min_face=size).detect(wide)) for size in (0, 30))
    assert far < near == len(Detector(threads=1).detect(PIXELS))
    assert Detector(threads=1, min_score=0.999).detect(wide) == []


@pytest.mark.parametrize(
    ("picture", "format", "kind", "told"),
    [
        (PIXELS.astype(np.float32), None, TypeError, "picture: expected a uint8 array, found an array of float32"),
        (PIXELS[:0], None, ValueError, r"picture: expected rgb pixels \[H, W, 3\], found \[0, 480, 3\]"),
        (PIXELS, "rgba", ValueError, r"picture: expected rgba pixels \[H, W, 4\]"),
        (PIXELS, "grey", ValueError, r"picture: expected grey pixels \[H, W\]"),
        (PIXELS[None], None, ValueError, r"picture: expected rgb pixels"),
        (PIXELS, "yuv", ValueError, "format: expected one of rgb, bgr, rgba, bgra, grey, nv12, i420, found 'yuv'"),
        (PIXELS[:7, :, 0], "nv12", ValueError, r"picture: expected nv12 pixels \[H \* 3 / 2, W\], found \[7, 480\]"),
        (Image.fromarray(PIXELS), "bgr", TypeError, "format: expected none beside a Image"),
        (None, None, TypeError, "picture: expected a path, a PIL picture or a uint8 array"),
        ("no-such.png", None, FileNotFoundError, "no-such.png"),
    ],
)
def test_what_is_no_picture_is_named(
    detector: Detector, picture: Any, format: str | None, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        detector.detect(picture, format)


def test_what_cannot_be_is_named(engine: Engine) -> None:
    with pytest.raises(awsnet.ArgumentError, match=r"min_score: expected .* found 1\.5"):
        Detector(min_score=1.5)
    with pytest.raises(awsnet.Error, match="face detector: expected"):
        Detector(awsnet.DEMO)
    with pytest.raises(ValueError, match="device: expected one of"):
        Detector(device="gpu")
    for face in (Face(0, 0, 0, 10), Face(float("nan"), 0, 9, 9), Face(1e9, 0, 9, 9)):
        with pytest.raises(ValueError, match="expected"):
            engine.cut(PIXELS, face)
    with pytest.raises(ValueError, match=r"face: expected the points left_eye, .*, found nose"):
        engine.cut(PIXELS, Face(0, 0, 9, 9, points={"nose": (1, 1)}))


def test_threads_keep_a_detector_each(engine: Engine) -> None:
    expected = engine.predict(GROUP, detect=True)["au"].logits
    found: list[np.ndarray] = []

    def work() -> None:
        found.append(engine.predict(GROUP, detect=True)["au"].logits)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    for logits in found:
        np.testing.assert_array_equal(logits, expected)
