"""Arrays on a GPU, or on the emulated driver (emulator/): what PyTorch and CuPy tell of theirs, and runs in place."""

import ctypes
import os
import sys
from ctypes import byref, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import awsnet
from awsnet import Engine, Session

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools/gpu"))
import cuda_driver  # noqa: E402


def has_gpu() -> bool:
    try:
        return Engine(awsnet.DEMO, device="cuda", precision="f32").device.startswith("cuda")
    except awsnet.Error as problem:
        print(f"no GPU here: {problem}")
        return False


pytestmark = pytest.mark.skipif(
    not has_gpu() and "AWSNET_REQUIRE_CUDA" not in os.environ, reason="no GPU here, and no emulated driver"
)


class CudaArray:
    """Memory on the device with what CuPy's and PyTorch's arrays say of theirs."""

    def __init__(self, device: cuda_driver.Device, values: np.ndarray) -> None:
        values = np.ascontiguousarray(values)
        self.device, self.values = device, values
        self.address = device.alloc(max(1, values.nbytes))
        device.upload(self.address, (ctypes.c_char * values.nbytes).from_buffer_copy(values))
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }

    def said(self, **other: Any) -> "CudaArray":
        """The same memory, told of otherwise."""
        again = object.__new__(CudaArray)
        again.device, again.values, again.address = self.device, self.values, self.address
        again.__cuda_array_interface__ = self.__cuda_array_interface__ | other
        return again

    def read(self) -> np.ndarray:
        found = self.device.download(self.address, self.values.size)
        return np.array(found, np.float32).reshape(self.values.shape)


class DLTensor(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""

    _fields_: ClassVar = [
        ("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
        ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)), ("byte_offset", c_uint64), ("manager", c_void_p), ("deleter", c_void_p),
    ]  # fmt: skip


class DLPackArray:
    """Memory on the device that speaks DLPack alone, as JAX's does; it lies `offset` bytes into its allocation."""

    def __init__(self, of: CudaArray, shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int) -> None:
        self.of, self.asked = of, []
        kind = of.values.dtype
        code = {"u": 1, "f": 2}[kind.kind]
        self._shape = (c_int64 * len(shape))(*shape)
        self._strides = None if strides is None else (c_int64 * len(shape))(*strides)
        self._tensor = DLTensor(of.address, 2, 0, len(shape), code, 8 * kind.itemsize, 1, self._shape)
        self._tensor.byte_offset = offset
        if self._strides is not None:
            self._tensor.strides = self._strides

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        self.asked.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
        return new(ctypes.addressof(self._tensor), b"dltensor", None)


class Stream:
    def __init__(self, address: int) -> None:
        self.cuda_stream = address


class Bench:
    """A batch of images as pixels and as floats, and what the network says of them."""

    def __init__(self) -> None:
        self.device = cuda_driver.Device()
        self.engine = Engine(awsnet.DEMO, device="cuda", precision="f32", batch=4)
        self.session: Session = self.engine.session()
        h, w = self.engine.height, self.engine.width
        self.pixels = np.random.default_rng(3).integers(0, 256, (3, h, w, 3), np.uint8)
        floats = (self.pixels.astype(np.float32) / np.float32(255) - self.engine.mean) / self.engine.std
        self.floats = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
        session = self.engine.session()
        self.of_pixels, self.of_floats = session.run(self.pixels), session.run(self.floats)  # the device normalises

    def out(self) -> dict[str, CudaArray]:
        return {
            name: CudaArray(self.device, np.full((3, head.count), np.nan, np.float32))
            for name, head in self.engine.heads.items()
        }

    def stream(self) -> int:
        return int(self.device.stream.value or 0)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_arrays_on_the_device_are_read_and_written_where_they_lie(bench: Bench) -> None:
    h, w = bench.engine.height, bench.engine.width
    frames = np.zeros((3, h + 5, w + 7, 3), np.uint8)
    frames[:, 2 : 2 + h, 3 : 3 + w] = bench.pixels
    of_frames = CudaArray(bench.device, frames)
    row, image = (w + 7) * 3, (h + 5) * (w + 7) * 3
    of_pixels, of_floats = CudaArray(bench.device, bench.pixels), CudaArray(bench.device, bench.floats)
    window = of_frames.said(
        shape=bench.pixels.shape, strides=(image, row, 3, 1), data=(of_frames.address + 2 * row + 9, False)
    )
    for images, expected in (
        (of_pixels, bench.of_pixels),
        (of_floats, bench.of_floats),
        (window, bench.of_pixels),
        (DLPackArray(of_pixels, bench.pixels.shape, None, 0), bench.of_pixels),
        (DLPackArray(of_floats, bench.floats.shape, None, 0), bench.of_floats),
        (DLPackArray(of_frames, bench.pixels.shape, (image, row, 3, 1), 2 * row + 9), bench.of_pixels),
    ):
        for stream in (bench.stream(), Stream(bench.stream())):
            out = bench.out()
            bench.session.enqueue(images, out, stream)
            bench.device.synchronize()
            for name, logits in out.items():
                np.testing.assert_array_equal(logits.read(), expected[name].logits)
        if isinstance(images, DLPackArray):
            assert images.asked == [-1, -1]  # nobody has to wait: the caller says in which stream


def test_a_queued_run_is_a_graph_launch_and_nothing_else(bench: Bench) -> None:
    driver = ctypes.CDLL("libcuda.so.1")
    if not hasattr(driver, "awsnet_emulator_counters"):
        pytest.skip("a real driver does not count")
    images, out = CudaArray(bench.device, bench.pixels), bench.out()
    for _ in range(2):
        bench.session.enqueue(images, out, bench.stream())
    bench.device.synchronize()

    def counted() -> dict[str, int]:
        counters = (c_uint64 * 64)()
        driver.awsnet_emulator_counters(byref(counters))
        return dict(zip(("calls", "memory", "pinned", "graphs"), [counters[i] for i in (0, 5, 6, 7)], strict=True))

    before = counted()
    for _ in range(10):
        bench.session.enqueue(images, out, bench.stream())
    after = counted()
    bench.device.synchronize()
    assert after["graphs"] - before["graphs"] == 10
    assert (after["memory"], after["pinned"]) == (before["memory"], before["pinned"])
    assert after["calls"] - before["calls"] <= 10 * 6  # contexts, the launch, events; no copy has a place there


def test_what_cannot_be_queued_is_named(bench: Bench) -> None:
    images, out = CudaArray(bench.device, bench.pixels), bench.out()
    h, w = bench.engine.height, bench.engine.width
    for wrong, logits, kind, told in (
        (bench.pixels, out, TypeError, "images: expected an array on a GPU, .* found a ndarray"),
        (images.said(typestr="<f8"), out, ValueError, "images: expected <f4"),
        (images.said(shape=(3, h, w - 1, 3)), out, ValueError, rf"images: expected \|u1 \[N, {h}, {w}, 3\], found"),
        (images.said(shape=(0, h, w, 3)), out, ValueError, "images: expected"),
        (images.said(strides=(h * w * 3, 3, h * 3, 1)), out, ValueError, "rows of whole pixels, found the strides"),
        (images, {}, ValueError, "out: expected arrays for emotion or au, found"),
        (images, {"gaze": out["au"]}, ValueError, "out: expected arrays for emotion or au, found"),
        (images, {"au": out["emotion"]}, ValueError, r"out: au: expected <f4 \[3, 16\], found <f4 \[3, 7\]"),
        (images, {"au": np.zeros((3, 16), np.float32)}, TypeError, "out: au: expected an array on a GPU"),
    ):
        with pytest.raises(kind, match=told):
            bench.session.enqueue(wrong, logits, bench.stream())
    with pytest.raises(TypeError, match="stream: expected a number or a stream of PyTorch or CuPy, found a str"):
        bench.session.enqueue(images, out, "default")
    with pytest.raises(ValueError, match="enqueue: expected an engine on cuda, found one on cpu"):
        Engine(awsnet.DEMO, device="cpu").session().enqueue(images, out)
    with pytest.raises(TypeError, match=r"found one on a GPU; see Session\.enqueue"):
        bench.session.run(images)
