"""The C interface, include/awsnet.h, by ctypes: its structs field by field, and calls that raise what they fail with.

The library is the one that the environment's AWSNET_LIBRARY names, else the one in this package, else libawsnet.so.1
where the system finds it. ctypes releases the GIL during every call.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

ABI_VERSION = 1
"""The AWSNET_ABI_VERSION that this file is written for."""


class Error(Exception):
    """A call that failed, in one line: "PLACE: expected EXPECTED, found FOUND"."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        """One of AWSNET_STATUS_*; `awsnet.h` says what each means."""
        self.message = message

    def __str__(self) -> str:
        return self.message


class ArgumentError(Error, ValueError):
    """An argument that cannot be: AWSNET_STATUS_INVALID_ARGUMENT."""


class DeadlineError(Error, TimeoutError):
    """A run that its deadline ended: AWSNET_STATUS_DEADLINE."""


_OF_STATUS: dict[int, type[Error]] = {1: ArgumentError, 11: DeadlineError}


# The structs of awsnet.h, field by field.


class Sized(ctypes.Structure):
    """A struct that begins with its size; everything else begins as zero."""

    def __init__(self) -> None:
        super().__init__()
        self.struct_size = ctypes.sizeof(self)


class ErrorOut(Sized):
    _fields_: ClassVar = [("struct_size", c_uint32), ("status", c_int32), ("message", c_char * 504)]


ThreadStart = ctypes.CFUNCTYPE(None, c_void_p, c_uint32)


class EngineOptions(Sized):
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
        ("thread_start", ThreadStart),
        ("thread_start_user_data", c_void_p),
        ("pool", c_void_p),
        ("executor", c_void_p),
        ("executor_user_data", c_void_p),
    ]


class PoolOptions(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("threads", c_uint32),
        ("spin_us", c_int32),
        ("affinity", c_int32),
        ("processors", c_void_p),
        ("processor_count", c_size_t),
        ("thread_start", ThreadStart),
        ("thread_start_user_data", c_void_p),
    ]


class RunOptions(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("timeout_us", c_uint64),
        ("cancel", c_void_p),
    ]


class EngineInfo(Sized):
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


class HeadInfo(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("kind", c_int32),
        ("count", c_size_t),
        ("label_count", c_size_t),
        ("name", c_char_p),
    ]


class Predictions(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("logits", c_void_p * 2),
        ("probabilities", c_void_p * 2),
        ("capacity", c_size_t * 2),
    ]


class ImagesU8(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("pixels", c_void_p),
        ("size", c_size_t),
        ("count", c_size_t),
        ("row_stride", c_size_t),
        ("image_stride", c_size_t),
    ]


class DeviceImages(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("format", c_int32),
        ("pixels", c_void_p),
        ("count", c_size_t),
        ("row_stride", c_size_t),
        ("image_stride", c_size_t),
    ]


class DetectorOptions(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("min_score", c_float),
        ("min_face", c_float),
        ("device", c_int32),
        ("device_index", c_uint32),
        ("threads", c_uint32),
        ("spin_us", c_int32),
        ("reserved", c_uint32),
        ("pool", c_void_p),
    ]


class Frame(Sized):
    _fields_: ClassVar = [
        ("struct_size", c_uint32),
        ("format", c_int32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("planes", c_void_p * 3),
        ("sizes", c_size_t * 3),
        ("row_strides", c_size_t * 3),
    ]


class Face(ctypes.Structure):
    _fields_: ClassVar = [
        ("x", c_float),
        ("y", c_float),
        ("width", c_float),
        ("height", c_float),
        ("score", c_float),
        ("point_count", c_uint32),
        ("points", c_float * 12),
        ("reserved", c_uint32 * 6),
    ]


LogCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)

_PARAMETERS: dict[str, list[Any]] = {
    "awsnet_log_set": [LogCallback, c_void_p],
    "awsnet_model_load": [c_char_p, POINTER(c_void_p)],
    "awsnet_model_load_bytes": [c_void_p, c_size_t, POINTER(c_void_p)],
    "awsnet_pool_create": [POINTER(PoolOptions), POINTER(c_void_p)],
    "awsnet_engine_create": [c_void_p, POINTER(EngineOptions), POINTER(c_void_p)],
    "awsnet_engine_query": [c_void_p, POINTER(EngineInfo)],
    "awsnet_engine_head": [c_void_p, c_int32, POINTER(HeadInfo)],
    "awsnet_engine_label": [c_void_p, c_int32, c_size_t, POINTER(c_char_p)],
    "awsnet_engine_head_threshold": [c_void_p, c_int32, c_size_t, POINTER(c_float)],
    "awsnet_engine_describe": [c_void_p, POINTER(c_char_p)],
    "awsnet_detector_create": [c_void_p, POINTER(DetectorOptions), POINTER(c_void_p)],
    "awsnet_detector_detect": [c_void_p, POINTER(Frame), POINTER(Face), c_size_t, POINTER(c_size_t)],
    "awsnet_engine_cut_u8": [c_void_p, POINTER(Frame), POINTER(Face), c_void_p, c_size_t],
    "awsnet_session_create": [c_void_p, POINTER(c_void_p)],
    "awsnet_session_run_with": [c_void_p, c_void_p, c_size_t, POINTER(RunOptions), POINTER(Predictions)],
    "awsnet_session_run_u8_with": [c_void_p, POINTER(ImagesU8), POINTER(RunOptions), POINTER(Predictions)],
    "awsnet_session_enqueue": [c_void_p, c_void_p, POINTER(DeviceImages), POINTER(Predictions)],
    "awsnet_session_scores": [c_void_p, c_int32, c_void_p, c_void_p, c_size_t, POINTER(c_size_t)],
}
"""Every function that is called here and takes an error, which comes last."""


def _load() -> ctypes.CDLL:
    """Load the library and declare what is called in it."""
    inside = Path(__file__).with_name(f"libawsnet.so.{ABI_VERSION}")
    name = os.environ.get("AWSNET_LIBRARY") or (str(inside) if inside.exists() else inside.name)
    try:
        library = ctypes.CDLL(name)
    except OSError as problem:
        raise ImportError(f"{problem}; AWSNET_LIBRARY can name the file") from problem
    library.awsnet_abi_version.restype = c_uint32
    if (found := library.awsnet_abi_version()) != ABI_VERSION:
        raise ImportError(f"{name}: expected version {ABI_VERSION} of the C interface, found {found}")
    library.awsnet_version.restype = c_char_p
    for function, parameters in _PARAMETERS.items():
        getattr(library, function).argtypes = [*parameters, POINTER(ErrorOut)]
    for handle in ("model", "pool", "engine", "session", "detector"):
        getattr(library, f"awsnet_{handle}_destroy").argtypes = [c_void_p]
    return library


library = _load()


def call(function: str, *arguments: Any) -> None:
    """Call a function of `_PARAMETERS`; a failure is an `Error`."""
    error = ErrorOut()
    status = getattr(library, function)(*arguments, byref(error))
    if status != 0:
        raise failure(status, error)


def failure(status: int, error: ErrorOut) -> Error:
    """What a call says that gave a status other than 0."""
    return _OF_STATUS.get(status, Error)(status, error.message.decode("utf-8", "replace"))


def version() -> str:
    """Give the version of the library that is loaded."""
    text: bytes = library.awsnet_version()
    return text.decode()


_log_callback = LogCallback()


def set_log(listener: Callable[[int, str], None] | None) -> None:
    """Set who hears the library's messages (level, text), for the whole process; None is nobody."""
    global _log_callback

    def told(_: object, level: int, message: bytes) -> None:
        if listener is not None:
            listener(level, message.decode("utf-8", "replace"))

    callback = LogCallback() if listener is None else LogCallback(told)
    call("awsnet_log_set", callback, None)
    _log_callback = callback  # lives as long as the library may call it


class Handle:
    """Something of the library's, which is freed when this object is, or by `close`.

    What a forked process inherits it never frees: the threads, and a GPU, are its parent's.
    """

    _kind: ClassVar[str]

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle
        self._process = os.getpid()
        self._destroy = weakref.finalize(self, _free, self._kind, handle, self._process)

    def close(self) -> None:
        """Free it now; whoever uses it afterwards gets an `Error`, and so does this where it is at work on a thread."""
        if self._destroy.detach() is None:
            return
        if (status := _free(self._kind, self._handle, self._process)) != 0:
            self._destroy = weakref.finalize(self, _free, self._kind, self._handle, self._process)
            raise Error(status, f"{self._kind}: expected one at rest, found one at work on another thread")
        self._handle = c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _free(kind: str, handle: c_void_p, process: int) -> int:
    """Free a handle where this is the process that made it; the status of that."""
    if os.getpid() != process:
        return 0
    status: int = getattr(library, f"awsnet_{kind}_destroy")(handle)
    return status
