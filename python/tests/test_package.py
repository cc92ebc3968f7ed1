"""What an engine is to programs around it: results with names, pickles, forks, threads, the cost of a call."""

import concurrent.futures
import ctypes
import math
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import awsnet
from awsnet import Engine, Model, _c

ROOT = Path(__file__).parents[2]
COMMAND = os.environ.get("AWSNET_COMMAND", Path(awsnet.__file__).with_name("bin") / "awsnet")
FACES = sorted((ROOT / "examples/faces/images").glob("*.png"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(awsnet.DEMO, device="cpu", batch=4, threads=1)


def test_predictions_have_names(engine: Engine) -> None:
    found = engine.predict(FACES)
    emotion, au = found["emotion"], found["au"]
    assert (found.count, list(found), len(found)) == (len(FACES), ["emotion", "au"], 2)
    assert emotion.best() == [emotion.labels[row.argmax()] for row in emotion.probabilities]
    assert au.active() == [
        [label for label, score, least in zip(au.labels, row, au.head.thresholds, strict=True) if score >= least]
        for row in au.probabilities
    ]
    assert found.to_dicts()[1]["au"]["active"] == au.active()[1]
    with pytest.raises(ValueError, match="au: expected a head of classes, found one of units"):
        au.best()
    with pytest.raises(ValueError, match="emotion: expected a head of units, found one of classes"):
        emotion.active()
    with pytest.raises(KeyError, match="expected one of the heads emotion, au, found 'gaze'"):
        found["gaze"]


def test_predictions_become_a_data_frame(engine: Engine) -> None:
    pytest.importorskip("pandas")
    found = engine.predict(FACES)
    frame = found.to_pandas()
    assert list(frame.columns) == ["emotion", *found["emotion"].labels, *found["au"].labels]
    assert list(frame["emotion"]) == found["emotion"].best()
    np.testing.assert_array_equal(frame[found["au"].labels].to_numpy(), found["au"].probabilities)


def test_everything_says_what_it_is(engine: Engine) -> None:
    size = f"{engine.width}x{engine.height} images; emotion: 7 classes, au: 16 units>"
    assert repr(engine) == f"<awsnet.Engine on cpu, f32, batch 4, {size}"
    assert repr(Model.load(awsnet.DEMO)) == f"<awsnet.Model {awsnet.DEMO}>"
    assert repr(Model.load(awsnet.DEMO.read_bytes())) == f"<awsnet.Model {awsnet.DEMO.stat().st_size} bytes>"
    assert repr(engine.predict(FACES[:3])) == "<awsnet.Predictions of 3 images; emotion: 7 classes, au: 16 units>"
    with engine.session() as session:
        assert repr(session) == f"<awsnet.Session of {engine!r}>"


def test_an_engine_is_pickled_by_its_file_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = awsnet.DEMO.read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    for source in ("model.safetensors", data, Model.load(tmp_path / "model.safetensors")):
        made = Engine(source, device="cpu", batch=3, threads=2)
        expected, pickled = logits_of(made), pickle.dumps(made)
        monkeypatch.chdir("/")
        again = pickle.loads(pickled)
        monkeypatch.chdir(tmp_path)
        assert (again.device, again.batch, again.threads) == ("cpu", 3, 2)
        np.testing.assert_array_equal(logits_of(again), expected)
    with pytest.raises(TypeError, match="`pool` and `thread_start`"):
        pickle.dumps(Engine(data, pool=awsnet.Pool(1)))
    with pytest.raises(TypeError, match="pickle its engine"):
        pickle.dumps(made.session())


def logits_of(engine: Engine) -> np.ndarray:
    return engine.predict(FACES)["au"].logits


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_processes_share_an_engine(engine: Engine, how: str) -> None:
    expected = logits_of(engine)  # the parent has used it
    context = multiprocessing.get_context(how)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for found in pool.map(logits_of, [engine] * 4):
            np.testing.assert_array_equal(found, expected)


def forked(queue: "multiprocessing.Queue[np.ndarray]") -> None:
    queue.put(logits_of(INHERITED["engine"]))


INHERITED: dict[str, Engine] = {}


def test_a_forked_child_uses_the_engine_it_inherits() -> None:
    INHERITED["engine"] = Engine(awsnet.DEMO, device="cpu", batch=4, threads=2)
    expected = logits_of(INHERITED["engine"])
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[np.ndarray] = context.Queue()
    child = context.Process(target=forked, args=(queue,))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join(60)
    assert child.exitcode == 0


def test_threads_predict_at_once(engine: Engine) -> None:
    expected = logits_of(engine)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: logits_of(engine), range(12)):
            np.testing.assert_array_equal(found, expected)


def test_a_session_that_runs_refuses_another_thread(engine: Engine) -> None:
    session = engine.session()
    images = np.zeros((4000, engine.height, engine.width, 3), np.uint8)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, images)

        def run_beside() -> None:
            while not running.done():
                session.run(images[:1])

        with pytest.raises(awsnet.Error, match="expected one thread at a time") as failure:
            run_beside()
        assert failure.value.status == 8
        assert running.result().count == 4000


def test_a_session_that_runs_is_not_closed_under_it(engine: Engine) -> None:
    session = engine.session()
    images = np.zeros((4000, engine.height, engine.width, 3), np.uint8)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, images)

        def close_beside() -> None:
            while not session._lock.locked():
                time.sleep(0.001)
            session.close()

        with pytest.raises(awsnet.Error, match="found one at work on another thread") as failure:
            close_beside()
        assert failure.value.status == 8
        assert running.result().count == 4000
    session.close()
    session.close()
    with pytest.raises(awsnet.Error, match="found NULL"):
        session.run(images[:1])


def test_a_deadline_is_of_all_batches_together(engine: Engine) -> None:
    """Ten batches that each end in time, but not all of them."""
    images = np.zeros((10 * engine.batch, engine.height, engine.width, 3), np.uint8)
    with engine.session() as session:
        session.run(images)
        begun = time.monotonic_ns()
        session.run(images)
        whole = (time.monotonic_ns() - begun) // 1000
        with pytest.raises(awsnet.DeadlineError):
            session.run(images, timeout_us=whole // 2)
        assert session.run(images, timeout_us=60_000_000).count == len(images)


def test_a_call_costs_little_more_than_the_call_of_c(tmp_path: Path) -> None:
    """What both take of this thread's processor, by turns, with a network that takes next to none.

    The least of many rounds: whatever else the machine does adds to a round, and nothing takes from it. The bound is
    loose, for processors differ; the figure is printed.
    """
    model = tmp_path / "tiny.safetensors"
    subprocess.run([COMMAND, "init", "--arch", "tiny", "--size", "8", "-o", model], check=True)
    engine = Engine(model, device="cpu", threads=1)
    session, out = engine.session(), engine.scores(1)
    image = np.zeros((1, engine.height, engine.width, 3), np.uint8)
    plain = _c.ImagesU8()
    plain.pixels, plain.size, plain.count = image.ctypes.data, image.nbytes, 1
    predictions, error = _c.Predictions(), _c.ErrorOut()
    for number, scores in enumerate(out.values()):
        predictions.logits[number] = scores.logits.ctypes.data
        predictions.probabilities[number] = scores.probabilities.ctypes.data
        predictions.capacity[number] = scores.logits.size
    arguments = session._handle, ctypes.byref(plain), None, ctypes.byref(predictions), ctypes.byref(error)

    def of_c() -> None:
        assert _c.library.awsnet_session_run_u8_with(*arguments) == 0

    def of_python() -> None:
        session.run(image, out)

    calls = 20
    least = {of_c: math.inf, of_python: math.inf}
    for _ in range(300):
        for call in least:
            begin = time.thread_time_ns()
            for _ in range(calls):
                call()
            least[call] = min(least[call], (time.thread_time_ns() - begin) / calls / 1000)
    added = least[of_python] - least[of_c]
    print(f"C {least[of_c]:.1f} us, Python {added:.1f} us more")
    assert added < 60


def test_the_snippet_of_the_readme_runs_as_printed(tmp_path: Path) -> None:
    """From the root of a checkout, as a reader has it."""
    text = (ROOT / "README.md").read_text()
    snippets = re.findall(r"```python\n(import awsnet\n.*?)```", text, re.DOTALL)
    assert len(snippets) == 1
    told = subprocess.run(
        [sys.executable, "-c", snippets[0]], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(awsnet.__file__).parents[1])},
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout


def test_the_command_is_in_the_package() -> None:
    for command in ([sys.executable, "-m", "awsnet"],):
        told = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60)
        assert told.returncode == 0
        assert awsnet.version() in told.stdout
        told = subprocess.run(
            [*command, "predict", "no-such-model", "x.png"], capture_output=True, text=True, timeout=60
        )
        assert told.returncode != 0
        assert "no-such-model" in told.stderr
