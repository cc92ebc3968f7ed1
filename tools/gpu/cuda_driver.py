"""A GPU from Python with nothing but its driver: memory, a stream, and events, with ctypes."""

import ctypes
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

_NON_BLOCKING = 1


class Device:
    """The first device, its primary context current on this thread, and a stream."""

    def __init__(self) -> None:
        self._c = ctypes.CDLL("libcuda.so.1")
        device, context, self.stream = c_int(), c_void_p(), c_void_p()
        self._call("cuInit", c_uint(0))
        self._call("cuDeviceGet", byref(device), c_int(0))
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", byref(self.stream), c_uint(_NON_BLOCKING))

    def _call(self, function: str, *arguments) -> None:
        status = getattr(self._c, function)(*arguments)
        if status:
            raise RuntimeError(f"{function}: driver error {status}")

    def alloc(self, nbytes: int) -> int:
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), c_size_t(nbytes))
        return address.value

    def upload(self, address: int, values: ctypes.Array) -> None:
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(address), values, c_size_t(ctypes.sizeof(values)), self.stream)
        self.synchronize()

    def download(self, address: int, count: int) -> list[float]:
        values = (c_float * count)()
        self._call("cuMemcpyDtoHAsync_v2", values, c_uint64(address), c_size_t(4 * count), self.stream)
        self.synchronize()
        return list(values)

    def fill(self, address: int, nbytes: int) -> None:
        """Queue a write of so many bytes."""
        self._call("cuMemsetD8Async", c_uint64(address), ctypes.c_ubyte(1), c_size_t(nbytes), self.stream)

    def synchronize(self) -> None:
        self._call("cuStreamSynchronize", self.stream)

    def event(self) -> c_void_p:
        event = c_void_p()
        self._call("cuEventCreate", byref(event), c_uint(0))
        return event

    def record(self, event: c_void_p) -> None:
        self._call("cuEventRecord", event, self.stream)

    def microseconds(self, begin: c_void_p, end: c_void_p) -> float:
        self._call("cuEventSynchronize", end)
        elapsed = c_float()
        self._call("cuEventElapsedTime", byref(elapsed), begin, end)
        return elapsed.value * 1e3
