"""libawsnet from Python, with ctypes: as much of include/awsnet.h as the programs beside this file need.

The Python package (python/) is the binding for programs; this one goes to machines that have no NumPy.
"""

import ctypes
from ctypes import byref, c_char, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_void_p

ABI_VERSION = 1
DEVICE_REFERENCE, DEVICE_CUDA = 2, 3
PRECISION_F32, PRECISION_F16 = 1, 2
PIXELS_F32 = 0


class _Error(ctypes.Structure):
    _fields_ = [("struct_size", c_uint32), ("status", c_int32), ("message", c_char * 504)]


class _EngineOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device", c_int32),
        ("device_index", c_uint32),
        ("precision", c_int32),
        ("batch", c_uint32),
        ("threads", c_uint32),
        ("graphs", c_int32),
    ]


class _EngineInfo(ctypes.Structure):
    _fields_ = [
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
    ]


class _Predictions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("logits", c_void_p * 2),
        ("probabilities", c_void_p * 2),
        ("capacity", c_size_t * 2),
    ]


class _DeviceImages(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("format", c_int32),
        ("pixels", c_void_p),
        ("count", c_size_t),
        ("row_stride", c_size_t),
        ("image_stride", c_size_t),
    ]


def _sized(kind, **fields):
    return kind(struct_size=ctypes.sizeof(kind), **fields)


class Library:
    """The shared library at a path."""

    def __init__(self, path: str) -> None:
        self._c = ctypes.CDLL(path)
        found = self._c.awsnet_abi_version()
        if found != ABI_VERSION:
            raise RuntimeError(f"{path}: expected ABI version {ABI_VERSION}, found {found}")
        self._c.awsnet_version.restype = c_char_p
        self.version = self._c.awsnet_version().decode()

    def call(self, function: str, *arguments) -> None:
        """Call a function that ends with an awsnet_error; raise what it says."""
        error = _sized(_Error)
        if getattr(self._c, function)(*arguments, byref(error)):
            raise RuntimeError(f"{function}: {error.message.decode()}")

    def destroy(self, kind: str, handle: c_void_p) -> None:
        getattr(self._c, f"awsnet_{kind}_destroy")(handle)


class Session:
    """A model made ready for a device, and one session on it."""

    def __init__(self, library: Library, model: str, device: int, batch: int, precision: int) -> None:
        self._library = library
        opened, engine, self._handle = c_void_p(), c_void_p(), c_void_p()
        library.call("awsnet_model_load", model.encode(), byref(opened))
        options = _sized(_EngineOptions, device=device, batch=batch, precision=precision)
        library.call("awsnet_engine_create", opened, byref(options), byref(engine))
        self.info = _sized(_EngineInfo)
        library.call("awsnet_engine_query", engine, byref(self.info))
        library.call("awsnet_session_create", engine, byref(self._handle))
        library.destroy("engine", engine)
        library.destroy("model", opened)
        self.batch = batch
        self.labels = list(self.info.label_count)
        self.image_len = self.info.channels * self.info.height * self.info.width

    def close(self) -> None:
        self._library.destroy("session", self._handle)

    def run(self, images: ctypes.Array) -> list[list[float]]:
        """Logits of both branches for normalised images in host memory, [N, C, H, W]."""
        count = len(images) // self.image_len
        logits = [(c_float * (count * labels))() for labels in self.labels]
        predictions = _sized(_Predictions)
        for branch, values in enumerate(logits):
            predictions.logits[branch] = ctypes.addressof(values)
            predictions.capacity[branch] = len(values)
        self._library.call("awsnet_session_run", self._handle, images, c_size_t(len(images)), byref(predictions))
        return [list(values) for values in logits]

    def queue(self, stream: int, images: int, logits: list[int]):
        """Give a function that queues a run of a whole batch between device addresses; `stream` is a CUstream."""
        pixels = _sized(_DeviceImages, format=PIXELS_F32, pixels=images, count=self.batch)
        predictions = _sized(_Predictions)
        for branch, address in enumerate(logits):
            predictions.logits[branch] = address
            predictions.capacity[branch] = self.batch * self.labels[branch]
        arguments = (self._handle, c_void_p(stream), byref(pixels), byref(predictions))
        return lambda: self._library.call("awsnet_session_enqueue", *arguments)
