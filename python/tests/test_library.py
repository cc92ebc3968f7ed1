"""The package on the library that AWSNET_LIBRARY names, beside the command that AWSNET_COMMAND names."""

import dataclasses
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import awsnet
from awsnet import Engine, Error, Model, Predictions, _c

ROOT = Path(__file__).parents[2]
COMMAND = os.environ.get("AWSNET_COMMAND", Path(awsnet.__file__).with_name("bin") / "awsnet")
SIZE = 24
OF_GOLDEN = ["three_heads_on_one_branch", "raw_heads", "one_branch"]
"""Models of tests/golden whose heads are not an AWS-Net's."""
LIKE_PILLOW = ["grey.png", "one_pixel.png", "one_row.png", "palette.png", "photo.png", "rgb.png", "rgba.png"]
"""Pictures that the command decodes to the bytes that Pillow gives."""


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    subprocess.run([COMMAND, "init", "--arch", "tiny", "--size", str(SIZE), "-o", path], check=True)
    return path


@pytest.fixture(scope="module")
def engine(model_file: Path) -> Engine:
    return Engine(Model.load(model_file), device="cpu", batch=4, threads=2)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def as_floats(line: Any) -> Any:
    """Give the parts of a line of JSON in its order, numbers as the float32 that they stand for."""
    if isinstance(line, dict):
        return [(key, as_floats(value)) for key, value in line.items()]
    if isinstance(line, list):
        return [as_floats(value) for value in line]
    return np.float32(line) if isinstance(line, float | int) else line


def same(some: Predictions, others: Predictions) -> bool:
    """Whether the bits are the same."""
    assert some.keys() == others.keys()
    return all(
        a.tobytes() == b.tobytes()
        for name in some
        for a, b in zip(
            (some[name].logits, some[name].probabilities),
            (others[name].logits, others[name].probabilities),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", ["tiny", *OF_GOLDEN])
def test_pictures_give_what_the_command_gives(name: str, model_file: Path, tmp_path: Path) -> None:
    if name != "tiny":
        model_file = ROOT / f"tests/golden/{name}.model.safetensors"
    for picture in LIKE_PILLOW:
        shutil.copy(ROOT / "tests/images" / picture, tmp_path)
    engine = Engine(model_file, batch=3)
    ours = engine.predict(tmp_path).to_dicts()
    command = [COMMAND, "predict", model_file, tmp_path, "--batch", "3", "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(ours) == len(LIKE_PILLOW)
    for line, found in zip(theirs, ours, strict=True):
        assert as_floats({"schema": 1, "image": line["image"], **found}) == as_floats(line)


def test_bytes_give_the_bits_of_the_floats_they_stand_for(engine: Engine, pixels: np.ndarray) -> None:
    session = engine.session()
    floats = (pixels.astype(np.float32) / np.float32(255) - engine.mean) / engine.std
    floats = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    expected = session.run(pixels)
    assert same(session.run(floats), expected)
    assert same(session.run(floats, timeout_us=10_000_000), expected)
    assert expected["emotion"].probabilities.sum(axis=1) == pytest.approx(1)


def test_a_view_is_passed_as_it_lies(engine: Engine, pixels: np.ndarray) -> None:
    session = engine.session()
    frames = np.zeros((6, SIZE + 9, SIZE + 5, 3), np.uint8)
    view = frames[1::2, 4 : 4 + SIZE, 2 : 2 + SIZE]
    view[:] = pixels
    assert same(session.run(view), session.run(pixels))
    session.run(view)
    passed = session._images
    assert (passed.pixels, passed.row_stride, passed.image_stride) == (view.ctypes.data, *view.strides[1::-1])
    assert passed.pixels + passed.size == view[-1, -1, -1, -1:].ctypes.data + 1
    assert same(session.run(view[:1]), session.run(pixels[:1]))


def test_scores_go_where_they_are_told(engine: Engine, pixels: np.ndarray) -> None:
    session, out = engine.session(), engine.scores(3)
    assert session.run(pixels, out) is out
    assert same(out, session.run(pixels))
    assert {name: [scores.logits.shape, scores.probabilities.shape] for name, scores in out.items()} == {
        "emotion": [(3, 7), (3, 7)],
        "au": [(3, 12), (3, 12)],
    }


def test_scores_of_another_shape_or_type_are_refused(engine: Engine, pixels: np.ndarray) -> None:
    session, right = engine.session(), engine.scores(3)
    logits = right["au"].logits
    fixed = logits.copy()
    fixed.flags.writeable = False
    for wrong in (logits[:2], logits.astype(np.float64), logits.T, fixed):
        with pytest.raises(ValueError, match="out: au: expected"):
            session.run(pixels, {**right, "au": dataclasses.replace(right["au"], logits=wrong)})
    with pytest.raises(ValueError, match="out: expected the heads"):
        session.run(pixels, {"au": right["au"]})


def test_failures_carry_a_status_and_a_message(engine: Engine, model_file: Path, pixels: np.ndarray) -> None:
    with pytest.raises(Error, match="no-such-file: expected a readable file, found") as failure:
        Model.load("no-such-file")
    assert failure.value.status == 3
    with pytest.raises(Error) as failure:
        Model.load(b"1234567")
    assert failure.value.status == 4
    again = pickle.loads(pickle.dumps(failure.value))
    assert (type(again), again.status, str(again)) == (Error, 4, str(failure.value))
    session = engine.session()
    session.close()
    session.close()
    with pytest.raises(Error, match="session: expected a pointer, found NULL"):
        session.run(pixels)


def test_a_model_is_read_from_any_bytes(engine: Engine, model_file: Path, pixels: np.ndarray) -> None:
    data = model_file.read_bytes()
    expected = engine.session().run(pixels)
    for kind in (bytes, bytearray, memoryview):
        model = Model.load(kind(data))
        assert same(Engine(model, device="cpu", batch=4).session().run(pixels), expected)


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert (engine.device, engine.precision, engine.batch, engine.threads) == ("cpu", "f32", 4, 2)
    assert (engine.channels, engine.height, engine.width) == (3, SIZE, SIZE)
    assert [(name, head.kind, head.count, len(head.labels)) for name, head in engine.heads.items()] == [
        ("emotion", "classes", 7, 7),
        ("au", "units", 12, 12),
    ]
    assert [head.thresholds.shape for head in engine.heads.values()] == [(0,), (12,)]
    assert "MB of arena" in engine.describe()
    assert awsnet.version() in (ROOT / "Cargo.toml").read_text()


def test_threads_with_a_session_each_get_the_same_bits(engine: Engine, pixels: np.ndarray) -> None:
    expected = engine.session().run(pixels)
    wrong: list[Predictions] = []

    def work() -> None:
        session = engine.session()
        for _ in range(20):
            scores = session.run(pixels)
            if not same(scores, expected):
                wrong.append(scores)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("u8", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_is_given_up_and_the_next_is_right(tmp_path: Path, threads: int, u8: bool) -> None:
    path = tmp_path / "resnet18.safetensors"
    subprocess.run([COMMAND, "init", "--arch", "resnet18", "--size", "64", "-o", path], check=True)
    session = Engine(Model.load(path), device="cpu", batch=4, threads=threads).session()
    pixels = np.random.default_rng(7).integers(0, 256, (4, 64, 64, 3), np.uint8)
    images = pixels if u8 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
    expected = session.run(images)
    begun = time.monotonic()
    session.run(images)
    whole = time.monotonic() - begun

    with pytest.raises(awsnet.DeadlineError, match="by its deadline") as failure:
        session.run(images, timeout_us=int(whole / 8 * 1e6) + 1)
    assert failure.value.status == 11
    assert same(session.run(images, timeout_us=60_000_000), expected)

    cancel = awsnet.Cancel()
    timer = threading.Timer(whole / 8, cancel.set)
    timer.start()

    def run_until_cancelled() -> None:
        while True:
            session.run(images, cancel=cancel)

    with pytest.raises(Error, match="not cancelled") as failure:
        run_until_cancelled()
    assert failure.value.status == 12
    with pytest.raises(Error, match="not cancelled"):
        session.run(images, cancel=cancel)
    cancel.clear()
    assert same(session.run(images, cancel=cancel), expected)
    for wrong in (0, -1, 1 << 64):
        with pytest.raises(ValueError, match="timeout_us"):
            session.run(images, timeout_us=wrong)


def test_threads_begin_where_they_are_told(model_file: Path, engine: Engine, pixels: np.ndarray) -> None:
    model, expected = Model.load(model_file), engine.session().run(pixels)
    processors = os.sched_getaffinity(0)
    seen: list[tuple[int, set[int]]] = []

    def start(number: int) -> None:
        seen.append((number, os.sched_getaffinity(0)))

    os.sched_setaffinity(0, {min(processors)})
    try:
        for affinity, where in (
            ("process", processors),
            ("inherit", {min(processors)}),
            ([max(processors)], {max(processors)}),
        ):
            others = Engine(model, device="cpu", batch=4, threads=3, affinity=affinity, thread_start=start)
            assert same(others.session().run(pixels), expected)
            pool = awsnet.Pool(2, affinity=affinity, thread_start=start, spin_us=awsnet.SPIN_NONE)
            pooled = Engine(model, device="cpu", batch=4, threads=3, pool=pool)
            pool.close()
            assert same(pooled.session().run(pixels), expected)
            assert sorted(number for number, _ in seen) == [0, 0, 1, 1]
            assert all(found == where for _, found in seen), affinity
            seen.clear()
    finally:
        os.sched_setaffinity(0, processors)
    with pytest.raises(Error, match="processors to pin to"):
        Engine(model, device="cpu", threads=2, affinity=[])


FORKED = """
import os, sys, awsnet, numpy as np
engine = awsnet.Engine(awsnet.Model.load(sys.argv[2]), device="cpu", threads=int(sys.argv[3]))
session = engine.session()
pixels = np.zeros((1, engine.height, engine.width, 3), np.uint8)
session.run(pixels)
if (child := os.fork()) == 0:
    if sys.argv[1] == "close":
        session.close()
    if sys.argv[1] == "run":
        try:
            session.run(pixels)
        except awsnet.Error as problem:
            sys.exit(problem.status)
    if sys.argv[1] == "gpu":
        engine.device = "cuda:0"  # in the place of one: nothing of a GPU is called
        try:
            engine.session()
        except awsnet.Error as problem:
            sys.exit(problem.status if "a fork does not inherit a GPU" in str(problem) else 1)
    if sys.argv[1] == "new":
        engine.session().run(pixels)
    sys.exit(0)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize(
    ("what", "threads", "code"),
    [("exit", 3, 0), ("close", 3, 0), ("run", 3, 10), ("new", 3, 0), ("run", 1, 0), ("exit", 1, 0), ("gpu", 1, 10)],
)
def test_a_forked_process_ends_quietly(model_file: Path, what: str, threads: int, code: int) -> None:
    command = [sys.executable, "-c", FORKED, what, model_file, str(threads)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(awsnet.__file__).parents[1])
    assert (told.returncode, told.stdout, told.stderr) == (code, "", "")


def test_the_log_reaches_its_listener(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[int, str]] = []
    model = Model.load(model_file)
    awsnet.set_log(lambda level, text: heard.append((level, text)))
    engine = Engine(model)
    awsnet.set_log(None)
    Engine(model)
    assert [level for level, _ in heard] == ([] if engine.device.startswith("cuda") else [3])


def test_the_structs_are_those_of_the_header() -> None:
    header = (ROOT / "include/awsnet.h").read_text()
    header = re.sub(r"//.*", "", header)
    structs = {
        "ErrorOut": "error", "EngineOptions": "engine_options", "PoolOptions": "pool_options",
        "RunOptions": "run_options",
        "EngineInfo": "engine_info", "HeadInfo": "head_info", "Predictions": "predictions", "ImagesU8": "images_u8",
        "DeviceImages": "device_images",
        "DetectorOptions": "detector_options",
        "Frame": "frame",
        "Face": "face",
    }  # fmt: skip
    of_c = {
        "uint32_t": _c.c_uint32, "size_t": _c.c_size_t, "float": _c.c_float, "char": _c.c_char,
        "awsnet_status": _c.c_int32, "awsnet_device": _c.c_int32, "awsnet_precision": _c.c_int32,
        "awsnet_graphs": _c.c_int32, "awsnet_affinity": _c.c_int32, "int32_t": _c.c_int32,
        "uint64_t": _c.c_uint64, "awsnet_thread_start_callback": _c.ThreadStart,
        "awsnet_executor_callback": _c.c_void_p, "awsnet_head_kind": _c.c_int32, "awsnet_pixels": _c.c_int32,
        "awsnet_frame_format": _c.c_int32,
    }  # fmt: skip
    for structure, name in structs.items():
        body = re.search(rf"typedef struct awsnet_{name} {{(.*?)}}", header, re.DOTALL)
        assert body is not None, name
        fields = []
        for declaration in filter(None, map(str.strip, body[1].split(";"))):
            kind, stars, field, length = re.fullmatch(r"(.+?) (\*?)(\w+)((?:\[\d+\])*)", declaration).groups()
            address = _c.c_char_p if kind == "const char" else _c.c_void_p
            base = address if stars else of_c[kind]
            lengths = [int(digits) for digits in re.findall(r"\d+", length)]
            fields.append((field, base * math.prod(lengths) if lengths else base))
        assert fields == getattr(_c, structure)._fields_, name
