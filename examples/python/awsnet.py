"""awsnet from Python, by ctypes and NumPy alone: copy this file.

    import awsnet
    engine = awsnet.Engine(awsnet.Model.load("model.safetensors"), batch=8)
    session = engine.session()
    scores = session.run(images)                # uint8 [N, H, W, C], or float32 [N, C, H, W], normalised
    print(engine.heads["emotion"].labels[scores["emotion"].probabilities[0].argmax()])

The library reads the caller's arrays and writes the caller's arrays. Nothing is copied on this side: a view into a
larger picture is as good as an array of its own, as long as its rows are whole pixels. The GIL is released during every
call, so threads with a session each run at once.

The library is the one that the environment's AWSNET_LIBRARY names, else libawsnet.so.1 where the system finds it.

As a program it classifies a folder of pictures in batches, decoded by Pillow, with a line of JSON for each:

    python awsnet.py MODEL FOLDER [--batch 8]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

ABI_VERSION = 1
"""The AWSNET_ABI_VERSION that this file is written for."""

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

Floats = NDArray[np.float32]


class Error(Exception):
    """A call that failed, in one line: "PLACE: expected EXPECTED, found FOUND"."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """One of AWSNET_STATUS_*; `awsnet.h` says what each means."""


# The structs of awsnet.h, field by field.


class _Sized(ctypes.Structure):
    """A struct that begins with its size; everything else begins as zero."""

    def __init__(self) -> None:
        super().__init__()
        self.struct_size = ctypes.sizeof(self)


class _Error(_Sized):
    _fields_: ClassVar = [("struct_size", c_uint32), ("status", c_int32), ("message", c_char * 504)]


_ThreadStart = ctypes.CFUNCTYPE(None, c_void_p, c_uint32)


class _EngineOptions(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("device", c_int32),
        ("device_index", c_uint32),
        ("precision", c_int32),
        ("batch", c_uint32),
        ("threads", c_uint32),
        ("graphs", c_int32),
        ("spin_us", c_int32),
        ("affinity", c_int32),
        ("reserved", c_uint32),
        ("processors", c_void_p),
        ("processor_count", c_size_t),
        ("thread_start", _ThreadStart),
        ("thread_start_user_data", c_void_p),
        ("pool", c_void_p),
        ("executor", c_void_p),
        ("executor_user_data", c_void_p),
    ]


class _PoolOptions(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("threads", c_uint32),
        ("spin_us", c_int32),
        ("affinity", c_int32),
        ("processors", c_void_p),
        ("processor_count", c_size_t),
        ("thread_start", _ThreadStart),
        ("thread_start_user_data", c_void_p),
    ]


class _RunOptions(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("timeout_us", c_uint64),
        ("cancel", c_void_p),
    ]


class _EngineInfo(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("device", c_int32),
        ("device_index", c_uint32),
        ("precision", c_int32),
        ("batch", c_uint32),
        ("threads", c_uint32),
        ("channels", c_uint32),
        ("height", c_uint32),
        ("width", c_uint32),
        ("label_count", c_uint32 * 2),
        ("mean", c_float * 3),
        ("std", c_float * 3),
        ("head_count", c_uint32),
        ("branch_count", c_uint32),
    ]


class _HeadInfo(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("count", c_size_t),
        ("label_count", c_size_t),
        ("name", c_char_p),
    ]


class _Predictions(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("logits", c_void_p * 2),
        ("probabilities", c_void_p * 2),
        ("capacity", c_size_t * 2),
    ]


class _ImagesU8(_Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("pixels", c_void_p),
        ("size", c_size_t),
        ("count", c_size_t),
        ("row_stride", c_size_t),
        ("image_stride", c_size_t),
    ]


_LogCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)

_PARAMETERS: dict[str, list[Any]] = {
    "awsnet_log_set": [_LogCallback, c_void_p],
    "awsnet_model_load": [c_char_p, POINTER(c_void_p)],
    "awsnet_model_load_bytes": [c_void_p, c_size_t, POINTER(c_void_p)],
    "awsnet_pool_create": [POINTER(_PoolOptions), POINTER(c_void_p)],
    "awsnet_engine_create": [c_void_p, POINTER(_EngineOptions), POINTER(c_void_p)],
    "awsnet_engine_query": [c_void_p, POINTER(_EngineInfo)],
    "awsnet_engine_head": [c_void_p, c_int32, POINTER(_HeadInfo)],
    "awsnet_engine_label": [c_void_p, c_int32, c_size_t, POINTER(c_char_p)],
    "awsnet_engine_head_threshold": [c_void_p, c_int32, c_size_t, POINTER(c_float)],
    "awsnet_engine_describe": [c_void_p, POINTER(c_char_p)],
    "awsnet_session_create": [c_void_p, POINTER(c_void_p)],
    "awsnet_session_run_with": [c_void_p, c_void_p, c_size_t, POINTER(_RunOptions), POINTER(_Predictions)],
    "awsnet_session_run_u8_with": [c_void_p, POINTER(_ImagesU8), POINTER(_RunOptions), POINTER(_Predictions)],
    "awsnet_session_scores": [c_void_p, c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
}
"""Every function that is called here and takes an error, which comes last."""


def _load() -> ctypes.CDLL:
    """Load the library and declare what is called in it."""
    name = os.environ.get("AWSNET_LIBRARY", f"libawsnet.so.{ABI_VERSION}")
    try:
        library = ctypes.CDLL(name)
    except OSError as problem:
        raise ImportError(f"{problem}; AWSNET_LIBRARY can name the file") from problem
    library.awsnet_abi_version.restype = c_uint32
    if (found := library.awsnet_abi_version()) != ABI_VERSION:
        raise ImportError(f"{name}: expected version {ABI_VERSION} of the C interface, found {found}")
    library.awsnet_version.restype = c_char_p
    for function, parameters in _PARAMETERS.items():
        getattr(library, function).argtypes = [*parameters, POINTER(_Error)]
    for handle in ("model", "pool", "engine", "session"):
        getattr(library, f"awsnet_{handle}_destroy").argtypes = [c_void_p]
    return library


_library = _load()


def _call(function: str, *arguments: Any) -> None:
    """Call a function of `_PARAMETERS`; a failure is an `Error`."""
    error = _Error()
    status = getattr(_library, function)(*arguments, byref(error))
    if status != 0:
        raise Error(status, error.message.decode("utf-8", "replace"))


def version() -> str:
    """Give the version of the library that is loaded."""
    text: bytes = _library.awsnet_version()
    return text.decode()


_log_callback = _LogCallback()


def set_log(listener: Callable[[int, str], None] | None) -> None:
    """Set who hears the library's messages (level, text), for the whole process; None is nobody."""
    global _log_callback

    def told(_: object, level: int, message: bytes) -> None:
        if listener is not None:
            listener(level, message.decode("utf-8", "replace"))

    callback = _LogCallback() if listener is None else _LogCallback(told)
    _call("awsnet_log_set", callback, None)
    _log_callback = callback  # lives as long as the library may call it


class _Handle:
    """Something of the library's, which is freed when this object is, or by `close`."""

    _kind: ClassVar[str]

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle
        self._destroy = weakref.finalize(self, getattr(_library, f"awsnet_{self._kind}_destroy"), handle)

    def close(self) -> None:
        """Free it now; whoever uses it afterwards gets an `Error`."""
        self._handle = c_void_p()
        self._destroy()


class Model(_Handle):
    """A network as its file states it."""

    _kind = "model"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Model:
        """Read a model file (.safetensors)."""
        handle = c_void_p()
        _call("awsnet_model_load", os.fsencode(path), byref(handle))
        return cls(handle)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Model:
        """Read a model file that is in memory."""
        handle, view = c_void_p(), np.frombuffer(data, np.uint8)
        _call("awsnet_model_load_bytes", view.ctypes.data, view.size, byref(handle))
        return cls(handle)


class Head(NamedTuple):
    """What a head gives for an image."""

    kind: str
    """One of `KINDS`."""
    count: int
    """Numbers that it gives."""
    labels: list[str]
    """One for each number; a head of values may have none."""
    thresholds: Floats
    """The probabilities from which on units count as active, [count]; none of another kind."""


class HeadScores(NamedTuple):
    """What a run gives for a head, [N, count] each."""

    logits: Floats
    """What the network computes."""
    probabilities: Floats
    """Softmax of the logits of classes, sigmoid of those of units, values as they are."""


Scores = dict[str, HeadScores]
"""What a run gives, by the names of the heads, in the order of the model file."""


def _say_of_threads(
    options: _EngineOptions | _PoolOptions,
    spin_us: int,
    affinity: str | Sequence[int],
    thread_start: Callable[[int], None] | None,
) -> None:
    """Set what the options of engines and of pools have in common."""
    options.spin_us = spin_us
    if isinstance(affinity, str):
        options.affinity = AFFINITIES.index(affinity)
    else:
        options.affinity = len(AFFINITIES)
        processors = (c_uint32 * max(1, len(affinity)))(*affinity)
        options.processors, options.processor_count = ctypes.addressof(processors), len(affinity)
        options._processors = processors  # lives as long as the options
    if thread_start is not None:
        start = thread_start
        options.thread_start = _ThreadStart(lambda _, number: start(number))


class Pool(_Handle):
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
        options, handle = _PoolOptions(), c_void_p()
        options.threads = threads
        _say_of_threads(options, spin_us, affinity, thread_start)
        _call("awsnet_pool_create", byref(options), byref(handle))
        super().__init__(handle)


class Engine(_Handle):
    """A model made ready to run; any number of threads may use it at once."""

    _kind = "engine"

    def __init__(
        self,
        model: Model,
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

        device: one of `DEVICES`; "cuda:1" is the second GPU. precision: one of `PRECISIONS`. batch: the most images
        that one run takes. threads: of each session, the caller's included; 0 is as many as the network can use.

        spin_us: how long a thread that waits keeps its processor before it sleeps, or SPIN_NONE or SPIN_ALWAYS; 0 is
        the default. affinity: where the threads of sessions run besides the caller's, one of `AFFINITIES`, or the
        number of a processor for each. thread_start: what each of them calls first, with its number, while `session`
        waits; no exception may leave it. pool: threads that sessions share, instead of their own.
        """
        name, _, index = device.partition(":")
        options, handle = _EngineOptions(), c_void_p()
        options.device = DEVICES.index(name)
        options.device_index = int(index or 0)
        options.precision = PRECISIONS.index(precision)
        options.batch, options.threads = batch, threads
        _say_of_threads(options, spin_us, affinity, thread_start)
        options.pool = None if pool is None else pool._handle
        self._thread_start = options.thread_start  # lives as long as a session may be made
        _call("awsnet_engine_create", model._handle, byref(options), byref(handle))
        super().__init__(handle)

        info = _EngineInfo()
        _call("awsnet_engine_query", handle, byref(info))
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
        self.heads = dict(self._head(i) for i in range(info.head_count))
        """By their names, in the order of the model file."""

    def _head(self, number: int) -> tuple[str, Head]:
        info, label, threshold = _HeadInfo(), c_char_p(), c_float()
        _call("awsnet_engine_head", self._handle, number, byref(info))
        kind, labels, thresholds = KINDS[info.kind], [], []
        for i in range(info.label_count):
            _call("awsnet_engine_label", self._handle, number, i, byref(label))
            labels.append((label.value or b"").decode())
        for i in range(info.count if kind == "units" else 0):
            _call("awsnet_engine_head_threshold", self._handle, number, i, byref(threshold))
            thresholds.append(threshold.value)
        return info.name.decode(), Head(kind, info.count, labels, np.array(thresholds, np.float32))

    def describe(self) -> str:
        """Give every choice about how the model runs, as a table for people."""
        text = c_char_p()
        _call("awsnet_engine_describe", self._handle, byref(text))
        return (text.value or b"").decode()

    def scores(self, count: int) -> Scores:
        """Make arrays for the scores of `count` images, for `Session.run` to fill."""
        return {
            name: HeadScores(*(np.empty((count, head.count), np.float32) for _ in HeadScores._fields))
            for name, head in self.heads.items()
        }

    def session(self) -> Session:
        """Make a session."""
        handle = c_void_p()
        _call("awsnet_session_create", self._handle, byref(handle))
        return Session(handle, self)


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


class Session(_Handle):
    """One caller's memory and threads; one thread at a time may use it."""

    _kind = "session"

    def __init__(self, handle: c_void_p, engine: Engine) -> None:
        """Take over what `Engine.session` has made."""
        super().__init__(handle)
        self.engine = engine

    def run(
        self,
        images: NDArray[np.uint8] | Floats,
        out: Scores | None = None,
        timeout_us: int | None = None,
        cancel: Cancel | None = None,
    ) -> Scores:
        """Run the network on N images, from 1 to the engine's batch.

        images: uint8 [N, H, W, C], which the library normalises, with anything between rows and between images; or
        float32 [N, C, H, W], normalised already. out: arrays to fill, as `Engine.scores` makes them; else new ones.
        timeout_us: give up after as many microseconds, 1 at least; a GPU is poisoned by that. cancel: give up when it
        is set.
        """
        out = self.engine.scores(len(images)) if out is None else out
        self._check_scores(out, len(images))
        predictions, options = _Predictions(), _RunOptions()
        if timeout_us is not None:
            if not 1 <= timeout_us < 1 << 64:
                raise ValueError(f"timeout_us: expected at least 1 microsecond, found {timeout_us}")
            options.timeout_us = timeout_us
        if cancel is not None:
            options.cancel = ctypes.addressof(cancel._flag)
        if images.dtype == np.uint8:
            arguments = (byref(self._images_u8(images)), byref(options), byref(predictions))
            _call("awsnet_session_run_u8_with", self._handle, *arguments)
        else:
            engine = self.engine
            shape = (len(images), engine.channels, engine.height, engine.width)
            _check("images", images, np.float32, shape)
            arguments = (images.ctypes.data, images.size, byref(options), byref(predictions))
            _call("awsnet_session_run_with", self._handle, *arguments)
        for number, name in enumerate(self.engine.heads):
            logits, probabilities = out[name]
            arguments = (logits.ctypes.data, probabilities.ctypes.data, logits.size, None)
            _call("awsnet_session_scores", self._handle, number, *arguments)
        return out

    def _check_scores(self, out: Scores, count: int) -> None:
        if out.keys() != self.engine.heads.keys():
            raise ValueError(f"out: expected the heads {list(self.engine.heads)}, found {list(out)}")
        for name, head in self.engine.heads.items():
            for array in out[name]:
                _check(f"out: {name}", array, np.float32, (count, head.count))
                if not array.flags.writeable:
                    raise ValueError(f"out: {name}: expected an array that can be written, found another")

    def _images_u8(self, images: NDArray[Any]) -> _ImagesU8:
        engine = self.engine
        expected = (len(images), engine.height, engine.width, engine.channels)
        if images.shape != expected:
            raise ValueError(f"images: expected the shape {expected}, found {images.shape}")
        # The stride of an axis with one element says nothing.
        strides = [stride if length > 1 else 0 for length, stride in zip(images.shape, images.strides, strict=True)]
        for length, stride, exact in zip(images.shape, strides, (None, None, engine.channels, 1), strict=True):
            if length > 1 and (stride < 1 or exact not in (None, stride)):
                raise ValueError(f"images: expected rows of whole pixels, found the strides {images.strides}")
        structure = _ImagesU8()
        structure.pixels = images.ctypes.data
        structure.size = 1 + sum(stride * (length - 1) for length, stride in zip(images.shape, strides, strict=True))
        structure.count = len(images)
        structure.image_stride, structure.row_stride = strides[:2]
        return structure


def _check(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    """Refuse an array that the library cannot take as it is."""
    is_plain = array.flags.c_contiguous and array.flags.aligned
    if array.dtype != dtype or array.shape != shape or not is_plain:
        expected = f"{np.dtype(dtype)} {list(shape)}, contiguous"
        raise ValueError(f"{name}: expected {expected}, found {array.dtype} {list(array.shape)}")


# A folder of pictures.

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def fit(picture: Image, engine: Engine) -> NDArray[np.uint8]:
    """Make an image for the engine of the largest centred part of a picture that has its aspect ratio, [H, W, C]."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture).convert("RGB")
    (width, height), (to_width, to_height) = picture.size, (engine.width, engine.height)
    if width * to_height > to_width * height:
        part = (max(1, min(width, (height * to_width + to_height // 2) // to_height)), height)
    else:
        part = (width, max(1, min(height, (width * to_height + to_width // 2) // to_width)))
    left, top = (width - part[0]) // 2, (height - part[1]) // 2
    picture = picture.crop((left, top, left + part[0], top + part[1]))
    picture = picture.resize((to_width, to_height), Image.Resampling.BILINEAR)
    if engine.channels == 1:
        picture = picture.convert("L")
    return np.asarray(picture).reshape(engine.height, engine.width, engine.channels)


def batches(folder: Path, engine: Engine) -> Iterator[tuple[list[Path], NDArray[np.uint8], list[tuple[Path, str]]]]:
    """Give the pictures of a folder, sorted, as many at a time as the engine takes, and those that cannot be read.

    The images are a view of one array, which the next batch overwrites.
    """
    from PIL import Image

    pixels = np.empty((engine.batch, engine.height, engine.width, engine.channels), np.uint8)
    paths: list[Path] = []
    failed: list[tuple[Path, str]] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            with Image.open(path) as picture:
                pixels[len(paths)] = fit(picture, engine)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
            failed.append((path, str(problem)))
            continue
        paths.append(path)
        if len(paths) == engine.batch:
            yield paths, pixels, failed
            paths, failed = [], []
    if paths or failed:
        yield paths, pixels[: len(paths)], failed


def _told(head: Head, probabilities: Floats) -> dict[str, Any]:
    """Say what a head makes of an image, as `awsnet predict --json` does."""
    scores = dict(zip(head.labels, probabilities.tolist(), strict=True)) if head.labels else probabilities.tolist()
    if head.kind == "classes":
        return {"label": head.labels[np.nan_to_num(probabilities, nan=-1.0).argmax()], "scores": scores}
    if head.kind == "units":
        active = [label for label, on in zip(head.labels, probabilities >= head.thresholds, strict=True) if on]
        return {"active": active, "scores": scores}
    return {"values": scores}


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify a folder of pictures; 1 where one of them cannot be read."""
    parser = argparse.ArgumentParser(description="Classify the faces in a folder of pictures.")
    parser.add_argument("model", metavar="MODEL", help="a model file, .safetensors")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="searched recursively")
    parser.add_argument("--batch", type=int, default=8, help="images that run together")
    parser.add_argument("--device", default="auto", help="auto, cpu, reference, cuda or cuda:N")
    options = parser.parse_args(arguments)
    set_log(lambda _, message: print(f"awsnet: {message}", file=sys.stderr))
    try:
        engine = Engine(Model.load(options.model), device=options.device, batch=options.batch)
        session, exit_code = engine.session(), 0
        for paths, images, failed in batches(options.folder, engine):
            if paths:
                scores = session.run(images)
            for i, path in enumerate(paths):
                heads = {name: _told(head, scores[name].probabilities[i]) for name, head in engine.heads.items()}
                print(json.dumps({"schema": 1, "image": str(path), **heads}))
            for path, problem in failed:
                exit_code = 1
                print(json.dumps({"schema": 1, "image": str(path), "error": problem}))
        return exit_code
    except Error as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        set_log(None)


if __name__ == "__main__":
    sys.exit(main())
