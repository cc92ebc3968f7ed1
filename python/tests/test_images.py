"""What people pass as images: right, or an error that names the argument, what was expected and what was found."""

import array as stdlib_array
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import awsnet
from awsnet import Engine

COMMAND = os.environ.get("AWSNET_COMMAND", Path(awsnet.__file__).with_name("bin") / "awsnet")
C, H, W = 3, 24, 20
PIXELS = np.random.default_rng(11).integers(0, 256, (5, H, W, C), np.uint8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    subprocess.run([COMMAND, "init", "--arch", "tiny", "--size", str(H), "-o", path], check=True)
    path.write_bytes(of_width(path.read_bytes(), W))
    made = Engine(path, device="cpu", batch=2, threads=1)
    assert made.shape == (C, H, W)
    return made


def of_width(model: bytes, width: int) -> bytes:
    """A model whose images are of another width, so that none of their axes is like another one."""
    length = int.from_bytes(model[:8], "little")
    header = json.loads(model[8 : 8 + length])
    manifest = json.loads(header["__metadata__"]["awsnet"])
    manifest["input"]["width"] = width
    header["__metadata__"]["awsnet"] = json.dumps(manifest)
    changed = json.dumps(header).encode()
    changed += b" " * (-len(changed) % 8)
    return len(changed).to_bytes(8, "little") + changed + model[8 + length :]


def floats(engine: Engine) -> np.ndarray:
    """What the pixels stand for."""
    return ((PIXELS.astype(np.float32) / np.float32(255) - engine.mean) / engine.std).transpose(0, 3, 1, 2)


class Interface:
    """What has `__array_interface__` alone."""

    def __init__(self, of: np.ndarray) -> None:
        self.of = of
        self.__array_interface__ = of.__array_interface__


class DLPack:
    """What has DLPack alone."""

    def __init__(self, of: np.ndarray) -> None:
        self.of = of

    def __dlpack__(self, **options: Any) -> Any:
        return self.of.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.of.__dlpack_device__()


class OnGpu:
    __cuda_array_interface__: ClassVar[dict[str, Any]] = {}


def read_only(pixels: np.ndarray) -> np.ndarray:
    copy = pixels.copy()
    copy.flags.writeable = False
    return copy


def unaligned(values: np.ndarray) -> np.ndarray:
    raw = np.empty(values.nbytes + 1, np.uint8)[1:]
    view = raw.view(np.float32).reshape(values.shape)
    view[:] = values
    return view


@pytest.mark.parametrize(
    ("images", "count"),
    [
        pytest.param(lambda p, f: p, 5, id="more than a batch"),
        pytest.param(lambda p, f: p[:1], 1, id="one of a batch"),
        pytest.param(lambda p, f: p[0], 1, id="one image"),
        pytest.param(lambda p, f: list(p), 5, id="list"),
        pytest.param(lambda p, f: tuple(p[:3]), 3, id="tuple"),
        pytest.param(lambda p, f: list(p[:, None]), 5, id="list of batches of one"),
        pytest.param(lambda p, f: [], 0, id="empty list"),
        pytest.param(lambda p, f: p[:0], 0, id="no images"),
        pytest.param(lambda p, f: f[:0], 0, id="no images of floats"),
        pytest.param(lambda p, f: p[..., ::-1][..., ::-1], 5, id="reversed twice"),
        pytest.param(lambda p, f: np.ascontiguousarray(p[..., ::-1])[..., ::-1], 5, id="BGR view"),
        pytest.param(lambda p, f: np.ascontiguousarray(p[:, ::-1])[:, ::-1], 5, id="bottom up"),
        pytest.param(lambda p, f: np.ascontiguousarray(p[:, :, ::-1])[:, :, ::-1], 5, id="mirrored view"),
        pytest.param(lambda p, f: np.ascontiguousarray(p[::-1])[::-1], 5, id="last image first"),
        pytest.param(lambda p, f: np.asfortranarray(p), 5, id="Fortran order"),
        pytest.param(lambda p, f: p.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3), 5, id="columns first"),
        pytest.param(lambda p, f: read_only(p), 5, id="read-only"),
        pytest.param(lambda p, f: np.dstack([p[0], p[0][..., :1]])[..., :3], 1, id="RGB of RGBA"),
        pytest.param(lambda p, f: np.broadcast_to(p[:1], p.shape), -5, id="one image, five times"),
        pytest.param(lambda p, f: memoryview(p), 5, id="memoryview"),
        pytest.param(lambda p, f: np.ma.masked_array(p), 5, id="masked array without a mask"),
        pytest.param(lambda p, f: p.view(np.recarray), 5, id="subclass"),
        pytest.param(lambda p, f: Interface(p), 5, id="__array_interface__"),
        pytest.param(lambda p, f: DLPack(p), 5, id="DLPack"),
        pytest.param(lambda p, f: Image.fromarray(p[0]), 1, id="PIL"),
        pytest.param(lambda p, f: [Image.fromarray(one) for one in p], 5, id="PIL list"),
        pytest.param(lambda p, f: Image.fromarray(p[0]).convert("RGBA"), 1, id="PIL RGBA"),
        pytest.param(lambda p, f: p.transpose(0, 3, 1, 2), 5, id="uint8 NCHW"),
        pytest.param(lambda p, f: p[0].transpose(2, 0, 1).copy(), 1, id="uint8 CHW"),
        pytest.param(lambda p, f: f, 5, id="float32 view"),
        pytest.param(lambda p, f: np.ascontiguousarray(f), 5, id="float32"),
        pytest.param(lambda p, f: f.astype(np.float64), 5, id="float64"),
        pytest.param(lambda p, f: f.astype(">f4"), 5, id="big-endian"),
        pytest.param(lambda p, f: f[0], 1, id="one of floats"),
        pytest.param(lambda p, f: list(f), 5, id="list of floats"),
        pytest.param(lambda p, f: unaligned(np.ascontiguousarray(f)), 5, id="unaligned floats"),
    ],
)
def test_images_are_what_they_mean(engine: Engine, images: Callable[[np.ndarray, np.ndarray], Any], count: int) -> None:
    with engine.session() as session:
        expected = session.run(PIXELS)
        found = session.run(images(PIXELS, floats(engine)))
    assert found.count == abs(count)
    for name, scores in found.items():
        wanted = expected[name].probabilities
        wanted = wanted[:1].repeat(-count, 0) if count < 0 else wanted[:count]
        np.testing.assert_array_equal(scores.probabilities, wanted)


def test_scores_that_are_not_finite_say_so(engine: Engine) -> None:
    images = np.ascontiguousarray(floats(engine))
    images[1, 0, 3, 3] = np.nan
    with engine.session() as session:
        found = session.run(images)
    for scores in found.values():
        assert scores.is_finite.tolist() == [True, False, True, True, True]


def test_half_floats_are_floats(engine: Engine) -> None:
    half = floats(engine).astype(np.float16)
    with engine.session() as session:
        expected, found = session.run(half.astype(np.float32)), session.run(half)
    np.testing.assert_array_equal(found["au"].logits, expected["au"].logits)


@pytest.mark.parametrize(
    ("images", "kind", "told"),
    [
        (lambda p, f: p[:, 1:], ValueError, r"images: expected uint8 \[N, 24, 20, 3\].* found uint8 \[5, 23, 20, 3\]"),
        (lambda p, f: p[:, :, :, :2], ValueError, r"found uint8 \[5, 24, 20, 2\]"),
        (lambda p, f: p[None], ValueError, r"found uint8 \[1, 5, 24, 20, 3\]"),
        (lambda p, f: p[0, 0, 0, 0], ValueError, r"found uint8 \[\]"),
        (lambda p, f: p.astype(np.int64), TypeError, r"found int64 .*astype\(numpy.uint8\)"),
        (lambda p, f: p > 9, TypeError, "found bool"),
        (lambda p, f: p.astype(np.int8), TypeError, "found int8"),
        (lambda p, f: f.astype(np.complex64), TypeError, "found complex64"),
        (lambda p, f: f.astype(object), TypeError, "found object"),
        (lambda p, f: p / 255, ValueError, "pixels are passed as uint8, floats channel by channel"),
        (lambda p, f: (p / 255)[0].astype(np.float32), ValueError, "pixels are passed as uint8"),
        (lambda p, f: [p[0], f[0]], TypeError, r"images\[1\]: expected uint8, as in images\[0\], found float32"),
        (lambda p, f: [p[0], p[0][:9]], ValueError, r"images\[1\]: expected"),
        (lambda p, f: [p[:2]], ValueError, r"images\[0\]: expected one image"),
        (lambda p, f: np.ma.masked_array(p, p > 200), ValueError, "found a masked one"),
        (lambda p, f: p.tobytes(), TypeError, "found a bytes"),
        (lambda p, f: stdlib_array.array("B", p.tobytes()), TypeError, "found a array"),
        (lambda p, f: None, TypeError, "found a NoneType"),
        (lambda p, f: 3, TypeError, "found a int"),
        (lambda p, f: {"image": p}, TypeError, "found a dict"),
        (lambda p, f: "face.png", TypeError, r"found a path; `Engine.predict` reads files"),
        (lambda p, f: Path("face.png"), TypeError, "found a path"),
        (lambda p, f: OnGpu(), TypeError, "found one on a GPU; see Session.enqueue"),
        (lambda p, f: Image.new("RGB", (9, 9)), ValueError, r"found uint8 \[9, 9, 3\]; `Engine.predict` takes"),
    ],
)
def test_what_is_none_is_named(
    engine: Engine, images: Callable[[np.ndarray, np.ndarray], Any], kind: type[Exception], told: str
) -> None:
    with engine.session() as session, pytest.raises(kind, match=told):
        session.run(images(PIXELS, floats(engine)))


def test_tensors_of_pytorch(engine: Engine) -> None:
    torch = pytest.importorskip("torch")
    with engine.session() as session:
        expected = session.run(PIXELS)["au"].probabilities
        tensor = torch.from_numpy(PIXELS)
        of_floats = torch.from_numpy(np.ascontiguousarray(floats(engine)))
        for images in (
            tensor,
            tensor.permute(0, 3, 1, 2).contiguous(),
            tensor.permute(0, 3, 1, 2),
            list(tensor),
            of_floats,
            of_floats.requires_grad_(),
            of_floats.double(),
            of_floats.to(memory_format=torch.channels_last),
        ):
            np.testing.assert_array_equal(session.run(images)["au"].probabilities, expected)
        with pytest.raises(TypeError, match="images: expected"):
            session.run(of_floats.bfloat16())
        with pytest.raises(TypeError, match="images: expected"):
            session.run(torch.zeros(1, 3, H, W, device="meta"))


def test_pictures_of_any_size(engine: Engine, tmp_path: Path) -> None:
    large = np.random.default_rng(2).integers(0, 256, (90, 111, 3), np.uint8)
    picture = Image.fromarray(large)
    picture.save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture")
    expected = engine.predict(picture)["au"].probabilities
    for same in (
        large,
        [large],
        large[None],
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        [tmp_path / "a.png"],
        tmp_path,
        large.transpose(2, 0, 1),
        np.dstack([large, large[..., :1]]),
        large[..., ::-1].copy()[..., ::-1],
    ):
        np.testing.assert_array_equal(engine.predict(same)["au"].probabilities, expected)
    assert engine.predict([]).count == 0
    assert engine.predict([picture] * 7).count == 7
    assert engine.predict(PIXELS).count == 5
    assert engine.predict(floats(engine)).count == 5
    grey = engine.predict([large[..., 0], Image.fromarray(large[..., 0]), large[..., :1]])["au"].probabilities
    np.testing.assert_array_equal(grey[1:], grey[:1].repeat(2, 0))


@pytest.mark.parametrize(
    ("images", "kind", "told"),
    [
        ("no-such.png", FileNotFoundError, "no-such.png"),
        ("text.png", ValueError, r"text.png: expected a picture, found cannot identify"),
        ("empty", FileNotFoundError, "empty: expected pictures in this folder, found none"),
        (["text.png"], ValueError, "text.png: expected a picture"),
        ([3], TypeError, r"images\[0\]: expected a path, a PIL picture or a uint8 array \[H, W, C\], found a int"),
        ([np.zeros((4, 4, 3))], TypeError, r"images\[0\]: expected .*, found an array of float64"),
        ([np.zeros((4, 4, 7), np.uint8)], ValueError, r"images\[0\]: expected pixels .*, found \[4, 4, 7\]"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"images\[0\]: expected pixels .*, found \[0, 4, 3\]"),
        (None, TypeError, r"images\[0\]: expected a path"),
    ],
)
def test_what_is_no_picture_is_named(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any, kind: type[Exception], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=told):
        engine.predict(images)


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"device": "gpu"}, ValueError, "device: expected one of auto, cpu, reference, cuda or cuda:N, found 'gpu'"),
        ({"device": "cpu:1"}, ValueError, "device: expected"),
        ({"device": "cuda:-1"}, ValueError, "device: expected"),
        ({"device": 0}, TypeError, "device: expected a str, found a int"),
        ({"precision": "fp16"}, ValueError, "precision: expected one of None, 'f32', 'f16', 'bf16', found 'fp16'"),
        ({"batch": 0}, ValueError, "batch: expected an int of at least 1, found 0"),
        ({"batch": 1.5}, TypeError, "batch: expected an int, found a float"),
        ({"threads": -1}, ValueError, "threads: expected an int of at least 0, found -1"),
        ({"affinity": "all"}, ValueError, "affinity: expected one of process, inherit, or numbers"),
    ],
)
def test_an_option_that_cannot_be_is_named(
    engine: Engine, options: dict[str, Any], kind: type[Exception], told: str
) -> None:
    source, _ = engine._again
    with pytest.raises(kind, match=told):
        Engine(source, **options)
