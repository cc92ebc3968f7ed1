"""Models, engines and sessions: a network from its file to its numbers."""

from __future__ import annotations

import ctypes
import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import byref, c_bool, c_char_p, c_float, c_uint32, c_void_p
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _c, pictures
from ._c import call, library
from .device_arrays import DeviceArray, device_array
from .faces import Detector, Face, as_frame
from .images import Shape, batch
from .predictions import Head, HeadScores, Predictions, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEVICES = ("auto", "cpu", "reference", "cuda")
"""By AWSNET_DEVICE_*."""

PRECISIONS = (None, "f32", "f16", "bf16")
"""By AWSNET_PRECISION_*; None is the device's own."""

AFFINITIES = ("process", "inherit")
"""By AWSNET_AFFINITY_*; a list of processors is AWSNET_AFFINITY_PINNED."""

KINDS = ("classes", "units", "values")
"""By AWSNET_HEAD_KIND_*."""

SPIN_NONE, SPIN_ALWAYS = -1, -2
"""For `spin_us`: a thread that waits sleeps at once, or never."""

PIXELS_F32, PIXELS_U8 = 0, 1
"""AWSNET_PIXELS_*."""


class Model(_c.Handle):
    """A network as its file states it."""

    _kind = "model"

    def __init__(self, handle: c_void_p, source: str | bytes) -> None:
        """Take over what `load` has read."""
        super().__init__(handle)
        self.source = source
        """The path, or the bytes, that it was read from."""

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Model:
        """Read a model file (.safetensors), from its path or from its bytes."""
        handle = c_void_p()
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            view = np.frombuffer(data, np.uint8)
            call("awsnet_model_load_bytes", view.ctypes.data, view.size, byref(handle))
            return cls(handle, data)
        if not isinstance(source, str | os.PathLike):
            raise TypeError(f"source: expected a path or bytes, found a {type(source).__name__}")
        path = os.fspath(source)
        call("awsnet_model_load", os.fsencode(path), byref(handle))
        return cls(handle, os.path.abspath(path))

    def __repr__(self) -> str:
        source = f"{len(self.source)} bytes" if isinstance(self.source, bytes) else self.source
        return f"<awsnet.Model {source}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Model.load, (self.source,)


class Pool(_c.Handle):
    """Threads that the sessions of several engines share."""

    _kind = "pool"

    def __init__(
        self,
        threads: int = 0,
        *,
        spin_us: int = 0,
        affinity: str | Sequence[int] = "process",
        thread_start: Callable[[int], None] | None = None,
    ) -> None:
        """Make the threads.

        threads: those that help whoever runs a session; 0 is one for each processor of the process, but one. The rest
        is as for `Engine`.
        """
        options, handle = _c.PoolOptions(), c_void_p()
        options.threads = _number("threads", threads, 0)
        _say_of_threads(options, spin_us, affinity, thread_start)
        self._thread_start = options.thread_start
        call("awsnet_pool_create", byref(options), byref(handle))
        super().__init__(handle)


class Engine(_c.Handle):
    """A model made ready to run; any number of threads may use it at once."""

    _kind = "engine"

    def __init__(
        self,
        model: Model | str | os.PathLike[str] | bytes,
        *,
        device: str = "auto",
        precision: str | None = None,
        batch: int = 1,
        threads: int = 0,
        spin_us: int = 0,
        affinity: str | Sequence[int] = "process",
        thread_start: Callable[[int], None] | None = None,
        pool: Pool | None = None,
    ) -> None:
        """Make a model ready to run; the model is needed no longer.

        model: a `Model`, or what `Model.load` takes.
        device: one of `DEVICES`; "cuda:1" is the second GPU. precision: one of `PRECISIONS`. batch: the most images
        that run together; more are split. threads: of each session, the caller's included; 0 is as many as the network
        can use.

        spin_us: how long a thread that waits keeps its processor before it sleeps, or SPIN_NONE or SPIN_ALWAYS; 0 is
        the default. affinity: where the threads of sessions run besides the caller's, one of `AFFINITIES`, or the
        number of a processor for each. thread_start: what each of them calls first, with its number, while `session`
        waits; no exception may leave it. pool: threads that sessions share, instead of their own.
        """
        opened = model if isinstance(model, Model) else Model.load(model)
        options, handle = _c.EngineOptions(), c_void_p()
        options.device, options.device_index = _device(device)
        if precision not in PRECISIONS:
            names = ", ".join(map(repr, PRECISIONS))
            raise ValueError(f"precision: expected one of {names}, found {precision!r}")
        options.precision = PRECISIONS.index(precision)
        options.batch = _number("batch", batch, 1)
        options.threads = _number("threads", threads, 0)
        _say_of_threads(options, spin_us, affinity, thread_start)
        options.pool = None if pool is None else pool._handle
        self._thread_start = options.thread_start  # lives as long as a session may be made
        call("awsnet_engine_create", opened._handle, byref(options), byref(handle))
        super().__init__(handle)
        self._again: tuple[Any, dict[str, Any]] = (
            opened.source,
            {"device": device, "precision": precision, "batch": batch, "threads": threads, "spin_us": spin_us,
             "affinity": affinity},
        )  # fmt: skip
        self._of_this_process = thread_start is not None or pool is not None
        self._sessions = threading.local()

        info = _c.EngineInfo()
        call("awsnet_engine_query", handle, byref(info))
        self.device = DEVICES[info.device] + (f":{info.device_index}" if DEVICES[info.device] == "cuda" else "")
        self.precision = PRECISIONS[info.precision]
        self.batch: int = info.batch
        self.threads: int = info.threads
        self.channels: int = info.channels
        self.height: int = info.height
        self.width: int = info.width
        self.mean = np.array(info.mean[: info.channels], np.float32)
        """An input of channel c is (pixel / 255 - mean[c]) / std[c]."""
        self.std = np.array(info.std[: info.channels], np.float32)
        self.heads = {head.name: head for head in map(self._head, range(info.head_count))}
        """By their names, in the order of the model file."""
        self.shape = Shape(self.channels, self.height, self.width)

    def _head(self, number: int) -> Head:
        info, label, threshold = _c.HeadInfo(), c_char_p(), c_float()
        call("awsnet_engine_head", self._handle, number, byref(info))
        kind, labels, thresholds = KINDS[info.kind], [], []
        for i in range(info.label_count):
            call("awsnet_engine_label", self._handle, number, i, byref(label))
            labels.append((label.value or b"").decode())
        for i in range(info.count if kind == "units" else 0):
            call("awsnet_engine_head_threshold", self._handle, number, i, byref(threshold))
            thresholds.append(threshold.value)
        return Head(info.name.decode(), kind, info.count, labels, np.array(thresholds, np.float32))

    def __repr__(self) -> str:
        heads = ", ".join(f"{head.name}: {head.count} {head.kind}" for head in self.heads.values())
        size = f"{self.width}x{self.height}"
        return f"<awsnet.Engine on {self.device}, {self.precision}, batch {self.batch}, {size} images; {heads}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._of_this_process:
            raise TypeError("an engine is pickled by its file and its options; `pool` and `thread_start` are neither")
        return _again, self._again

    def describe(self) -> str:
        """Give every choice about how the model runs, as a table for people."""
        text = c_char_p()
        call("awsnet_engine_describe", self._handle, byref(text))
        return (text.value or b"").decode()

    def scores(self, count: int) -> Predictions:
        """Make arrays for the scores of `count` images, for `Session.run` to fill."""
        heads = {
            name: HeadScores(head, *(np.empty((count, head.count), np.float32) for _ in range(2)))
            for name, head in self.heads.items()
        }
        return Predictions(heads, count)

    def session(self) -> Session:
        """Make a session."""
        self._check_process()
        handle = c_void_p()
        call("awsnet_session_create", self._handle, byref(handle))
        return Session(handle, self)

    def _check_process(self) -> None:
        """Refuse an engine on a GPU that a forked process has inherited."""
        if self.device.startswith("cuda") and os.getpid() != self._process:
            expected = "expected the process that made it, since a fork does not inherit a GPU"
            raise _c.Error(10, f"engine: {expected}, found another; start processes by spawn or forkserver")

    def cut(self, picture: Any, face: Face, format: str | None = None) -> NDArray[np.uint8]:
        """Cut a face out of a picture as the model's file says, uint8 [H, W, C] of the network's size.

        picture, format: as for `Detector.detect`. A model that says nothing gets the square of 1.2 times the longer
        side of the bounds, 0.05 of it higher. What lies outside of the picture is black; what shrinks is antialiased.
        """
        frame = as_frame(picture, format)
        pixels = np.empty((self.height, self.width, self.channels), np.uint8)
        call(
            "awsnet_engine_cut_u8",
            self._handle,
            byref(frame._of_c),
            byref(face._of_c()),
            pixels.ctypes.data,
            pixels.nbytes,
        )
        return pixels

    def predict(self, images: Any, *, detect: bool | Detector = False) -> Predictions:
        """Run the network on pictures of any size, one or many: on each picture, or on every face in them.

        images: paths, a folder, PIL pictures or uint8 arrays [H, W, C] of RGB, one or a list; or what `Session.run`
        takes. Every thread keeps a session of its own, and a detector, for later calls.

        detect: True finds every face from 24 pixels of width on, as `awsnet predict --detect` does in pictures; or a
        `Detector`, with limits of its own. The predictions are a row a face, the surest of a picture first, and
        `Predictions.faces` says of which picture and where. False takes the largest centred part of each
        picture that has the network's aspect ratio: for pictures that are a face already.
        """
        if detect is not False:
            return self._predict_faces(images, detect)
        session: Session = self._kept("session", self.session)
        if not isinstance(images, list | tuple):
            if isinstance(images, str | os.PathLike) or not pictures.is_of_size(images, self.shape):
                images = pictures.split(images)
            else:
                return session.run(images)
        parts = [
            session.run(
                [pictures.fitted(image, self.shape, f"images[{begin + index}]") for index, image in enumerate(some)]
            )
            for begin, some in ((i, images[i : i + self.batch]) for i in range(0, len(images), self.batch))
        ]
        return joined(parts) if parts else self.scores(0)

    def _predict_faces(self, images: Any, detect: bool | Detector) -> Predictions:
        detector = detect if isinstance(detect, Detector) else self._kept("detector", _of_pictures)
        session: Session = self._kept("session", self.session)
        parts: list[Predictions] = []
        found: list[tuple[int, Face]] = []
        waiting: list[NDArray[np.uint8]] = []
        for index, picture in enumerate(images if isinstance(images, list | tuple) else pictures.split(images)):
            frame = as_frame(picture, name=f"images[{index}]")
            for face in detector.detect(frame):
                found.append((index, face))
                waiting.append(self.cut(frame, face))
            while len(waiting) >= self.batch:
                parts.append(session.run(waiting[: self.batch]))
                del waiting[: self.batch]
        parts.append(session.run(waiting))
        whole = joined(parts)
        return Predictions(whole.heads, whole.count, found)

    def _kept(self, what: str, make: Callable[[], Any]) -> Any:
        """What this thread keeps for later calls; anew in a forked process, which has none of its threads."""
        kept = self._sessions
        if getattr(kept, "process", None) != os.getpid():
            kept.__dict__.clear()
            kept.process = os.getpid()
        if what not in kept.__dict__:
            kept.__dict__[what] = make()
        return kept.__dict__[what]


def _of_pictures() -> Detector:
    """The detector that `awsnet predict` has for pictures."""
    return Detector(min_face=24)


def _again(source: str | bytes, options: dict[str, Any]) -> Engine:
    return Engine(Model.load(source), **options)


class Cancel:
    """A flag by which another thread ends runs, until it is cleared."""

    def __init__(self) -> None:
        """Make one that is not set."""
        self._flag = c_bool(False)

    def set(self) -> None:
        """End the runs that have it: they fail with AWSNET_STATUS_CANCELLED, as later ones do."""
        self._flag.value = True

    def clear(self) -> None:
        """Let later runs be."""
        self._flag.value = False


class Session(_c.Handle):
    """One caller's memory and threads; one thread at a time may use it."""

    _kind = "session"

    def __init__(self, handle: c_void_p, engine: Engine) -> None:
        """Take over what `Engine.session` has made."""
        super().__init__(handle)
        self.engine = engine
        # What every call passes, made once.
        self._error, self._images, self._options = _c.ErrorOut(), _c.ImagesU8(), _c.RunOptions()
        self._predictions = _c.Predictions()
        self._passed = byref(self._images), byref(self._options), byref(self._predictions), byref(self._error)
        self._lock = threading.Lock()
        self._names = list(engine.heads)
        self._on_gpu = engine.device.startswith("cuda")

    def close(self) -> None:
        """Free it now; an `Error` where another thread runs it, and for whoever uses it afterwards."""
        if not self._lock.acquire(blocking=False):
            raise _c.Error(8, "session: expected one at rest, found one at work on another thread")
        try:
            super().close()
        finally:
            self._lock.release()

    def __repr__(self) -> str:
        return f"<awsnet.Session of {self.engine!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a session belongs to its process; pickle its engine, and make a session where it is unpickled")

    def run(
        self,
        images: Any,
        out: Predictions | Mapping[str, HeadScores] | None = None,
        timeout_us: int | None = None,
        cancel: Cancel | None = None,
    ) -> Predictions:
        """Run the network on any number of images of its size; more than the engine's batch are several runs.

        images: uint8 [N, H, W, C], which the library normalises; float [N, C, H, W], normalised already; one image
        without N; a list of single ones; arrays of NumPy, tensors in the processor's memory, PIL pictures. What lies as
        the library reads it (rows of whole pixels, or contiguous float32) is not copied. out: arrays to fill, as
        `Engine.scores` makes them; else new ones; a run that fails may have filled the rows of earlier batches.
        timeout_us: give up after as many microseconds, 1 at least, of all batches together; a GPU is poisoned by that.
        cancel: give up when it is set.
        """
        engine = self.engine
        if self._on_gpu:
            engine._check_process()
        array = batch(images, engine.shape)
        count = len(array)
        if out is None:
            out = engine.scores(count)
        else:
            self._check_scores(out, count)
            if not isinstance(out, Predictions):
                out = Predictions(dict(out), count)
        deadline = 0
        if timeout_us is not None:
            timeout_us = operator.index(timeout_us)
            if not 1 <= timeout_us < 1 << 64:
                raise ValueError(f"timeout_us: expected at least 1 microsecond, found {timeout_us}")
            deadline = time.monotonic_ns() + 1000 * timeout_us
        if not self._lock.acquire(blocking=False):
            raise _c.Error(8, "session: expected one thread at a time, found another that runs it")
        try:
            self._options.timeout_us = timeout_us or 0
            self._options.cancel = None if cancel is None else ctypes.addressof(cancel._flag)
            for begin in range(0, count, engine.batch):
                if deadline and begin:
                    self._options.timeout_us = max(1, (deadline - time.monotonic_ns()) // 1000)
                self._run(array[begin : begin + engine.batch], out, begin)
        finally:
            self._lock.release()
        return out

    def _run(self, images: NDArray[Any], out: Predictions, begin: int) -> None:
        passed, options, predictions, error = self._passed
        count = len(images)
        address = images.ctypes.data
        if images.dtype == np.uint8:
            described = self._images
            described.pixels, described.count = address, count
            if images.flags.c_contiguous:
                described.size, described.image_stride, described.row_stride = images.nbytes, 0, 0
            else:
                # The stride of an axis with one element says nothing.
                strides = [
                    stride if length > 1 else 0 for length, stride in zip(images.shape, images.strides, strict=True)
                ]
                described.image_stride, described.row_stride = strides[:2]
                described.size = 1 + sum(
                    stride * (length - 1) for length, stride in zip(images.shape, strides, strict=True)
                )
            status = library.awsnet_session_run_u8_with(self._handle, passed, options, predictions, error)
        else:
            status = library.awsnet_session_run_with(self._handle, address, images.size, options, predictions, error)
        for number, name in enumerate(self._names):
            if status != 0:
                break
            scores = out.heads[name]
            columns = scores.head.count
            _, logits, probabilities = scores.filled
            begins, size = 4 * columns * begin, columns * count
            logits, probabilities = logits + begins, probabilities + begins
            status = library.awsnet_session_scores(self._handle, number, logits, probabilities, size, None, error)
        if status != 0:
            raise _c.failure(status, self._error)

    def enqueue(self, images: Any, out: Mapping[str, Any], stream: Any = None) -> None:
        """Queue a run on a CUDA stream and return at once; for an engine on "cuda".

        images: an array on the engine's GPU, of whatever has `__cuda_array_interface__` or DLPack (PyTorch, CuPy,
        JAX), from 1 to `engine.batch` images: uint8 [N, H, W, C], rows of whole pixels, or contiguous float32
        [N, C, H, W], normalised. out: for "emotion", "au" or both, arrays on the GPU, contiguous float32
        [N, count], that get the logits. stream: a CUstream as a number, or an object with `cuda_stream` or `ptr`
        (PyTorch's and CuPy's); None is the default stream.

        Whoever waits for the stream sees the results. Until then images and out stay where they are.
        """
        engine = self.engine
        if not engine.device.startswith("cuda"):
            raise ValueError(f"enqueue: expected an engine on cuda, found one on {engine.device}")
        engine._check_process()
        given = device_array("images", images)
        c, h, w = engine.shape
        described = _c.DeviceImages()
        if given.typestr == "|u1":
            given.check("images", "|u1", (None, h, w, c))
            described.format = PIXELS_U8
            described.image_stride, described.row_stride = given.rows("images")
        else:
            given.check("images", "<f4", (None, c, h, w))
            given.check_contiguous("images")
            described.format = PIXELS_F32
        described.pixels, described.count = given.address, given.shape[0]
        count = given.shape[0]
        predictions = _c.Predictions()
        branches = ("emotion", "au")
        if not out or not out.keys() <= set(branches):
            raise ValueError(f"out: expected arrays for {' or '.join(branches)}, found {list(out)}")
        kept: list[DeviceArray] = []
        for number, name in enumerate(branches):
            if name in out:
                logits = device_array(f"out: {name}", out[name])
                logits.check(f"out: {name}", "<f4", (count, engine.heads[name].count))
                logits.check_contiguous(f"out: {name}")
                predictions.logits[number], predictions.capacity[number] = logits.address, logits.size
                kept.append(logits)
        call("awsnet_session_enqueue", self._handle, _stream(stream), byref(described), byref(predictions))

    def _check_scores(self, out: Mapping[str, HeadScores], count: int) -> None:
        if out.keys() != self.engine.heads.keys():
            raise ValueError(f"out: expected the heads {list(self.engine.heads)}, found {list(out)}")
        for name, scores in out.items():
            if scores.filled[0] != count or scores.head.count != self.engine.heads[name].count:
                expected = f"[{count}, {self.engine.heads[name].count}]"
                raise ValueError(f"out: {name}: expected {expected}, found {list(scores.logits.shape)}")


def _stream(stream: Any) -> int | None:
    if stream is None or isinstance(stream, int):
        return stream
    for attribute in ("cuda_stream", "ptr", "handle"):
        if isinstance(value := getattr(stream, attribute, None), int):
            return value
    raise TypeError(f"stream: expected a number or a stream of PyTorch or CuPy, found a {type(stream).__name__}")


def _device(device: str) -> tuple[int, int]:
    if not isinstance(device, str):
        raise TypeError(f"device: expected a str, found a {type(device).__name__}")
    name, colon, index = device.partition(":")
    if name not in DEVICES or (colon and (name != "cuda" or not index.isdecimal())):
        raise ValueError(f"device: expected one of {', '.join(DEVICES)} or cuda:N, found {device!r}")
    return DEVICES.index(name), _number("device", int(index or 0), 0)


def _number(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an int, found a {type(value).__name__}") from None
    if not least <= number < 1 << 32:
        raise ValueError(f"{name}: expected an int of at least {least}, found {number}")
    return number


def _say_of_threads(
    options: _c.EngineOptions | _c.PoolOptions,
    spin_us: int,
    affinity: str | Iterable[int],
    thread_start: Callable[[int], None] | None,
) -> None:
    """Set what the options of engines and of pools have in common."""
    options.spin_us = spin_us
    if isinstance(affinity, str):
        if affinity not in AFFINITIES:
            expected = f"one of {', '.join(AFFINITIES)}, or numbers of processors"
            raise ValueError(f"affinity: expected {expected}, found {affinity!r}")
        options.affinity = AFFINITIES.index(affinity)
    else:
        numbers = [_number("affinity", number, 0) for number in affinity]
        options.affinity = len(AFFINITIES)
        processors = (c_uint32 * max(1, len(numbers)))(*numbers)
        options.processors, options.processor_count = ctypes.addressof(processors), len(numbers)
        options._processors = processors  # lives as long as the options
    if thread_start is not None:
        start = thread_start
        options.thread_start = _c.ThreadStart(lambda _, number: start(number))
