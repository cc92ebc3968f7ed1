"""Arrays in the memory of a GPU, as PyTorch, CuPy and JAX tell of them: `__cuda_array_interface__` and DLPack."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any, ClassVar, NamedTuple

CUDA = (2, 13)
"""DLPack's device types of CUDA: device memory, and managed memory."""

TYPESTRS = {(0, 8): "|i1", (1, 8): "|u1", (2, 16): "<f2", (2, 32): "<f4", (2, 64): "<f8"}
"""NumPy's names of DLPack's types, by code and bits."""


class DeviceArray(NamedTuple):
    """Where an array lies, and how."""

    address: int
    typestr: str
    """The type as NumPy writes it: "|u1", "<f4"."""
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    """In bytes; None where the array is contiguous."""
    owner: Any
    """Keeps the memory."""

    @property
    def size(self) -> int:
        """The number of elements."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    def check(self, name: str, typestr: str, shape: tuple[int | None, ...]) -> None:
        """Refuse another type or shape; None in a shape is any number from 1 on."""
        fits = len(self.shape) == len(shape) and all(
            (found >= 1 if wanted is None else found == wanted) for found, wanted in zip(self.shape, shape, strict=True)
        )
        if self.typestr != typestr or not fits:
            wanted = ", ".join("N" if length is None else str(length) for length in shape)
            raise ValueError(f"{name}: expected {typestr} [{wanted}], found {self.typestr} {list(self.shape)}")

    def check_contiguous(self, name: str) -> None:
        """Refuse gaps."""
        wanted = self._contiguous()
        strides = self.strides or wanted
        if any(
            length > 1 and found != expected
            for length, found, expected in zip(self.shape, strides, wanted, strict=True)
        ):
            raise ValueError(f"{name}: expected a contiguous array, found the strides {strides}")

    def rows(self, name: str) -> tuple[int, int]:
        """Bytes between images and between rows of uint8 [N, H, W, C], whose rows must be whole pixels."""
        strides = self.strides or self._contiguous()
        exact = (None, None, self.shape[3], 1)
        for length, stride, wanted in zip(self.shape, strides, exact, strict=True):
            if length > 1 and (stride < 1 or wanted not in (None, stride)):
                raise ValueError(f"{name}: expected rows of whole pixels, found the strides {strides}")
        image, row = (stride if length > 1 else 0 for length, stride in zip(self.shape[:2], strides[:2], strict=True))
        return image, row

    def _contiguous(self) -> tuple[int, ...]:
        strides, step = [], int(self.typestr[2:])
        for length in reversed(self.shape):
            strides.append(step)
            step *= length
        return tuple(reversed(strides))


def device_array(name: str, given: Any) -> DeviceArray:
    """What an object says of its array on a GPU."""
    interface = getattr(given, "__cuda_array_interface__", None)
    if interface is not None:
        if interface.get("mask") is not None:
            raise ValueError(f"{name}: expected an array whose values are all there, found a masked one")
        address, _ = interface["data"]
        strides = interface.get("strides")
        shape = tuple(interface["shape"])
        return DeviceArray(address or 0, interface["typestr"], shape, tuple(strides) if strides else None, given)
    if hasattr(given, "__dlpack__") and given.__dlpack_device__()[0] in CUDA:
        return _of_dlpack(name, given)
    expected = "an array on a GPU, with __cuda_array_interface__ or __dlpack__"
    raise TypeError(f"{name}: expected {expected}, found a {type(given).__name__}")


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h, with which DLManagedTensor begins."""

    _fields_: ClassVar = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),  # in elements; NULL where contiguous
        ("byte_offset", c_uint64),
    ]


_capsule_pointer: Callable[..., int] = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = c_void_p  # type: ignore[attr-defined]
_capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]  # type: ignore[attr-defined]


def _of_dlpack(name: str, given: Any) -> DeviceArray:
    # -1: the producer need not wait for its stream, on which the caller queues.
    capsule = given.__dlpack__(stream=-1)
    # The capsule stays unconsumed, so its owner frees the tensor when the capsule goes.
    tensor = ctypes.cast(_capsule_pointer(capsule, b"dltensor"), POINTER(_Tensor)).contents
    typestr = TYPESTRS.get((tensor.code, tensor.bits), f"DLPack type {tensor.code} of {tensor.bits} bits")
    if tensor.lanes != 1 or typestr not in TYPESTRS.values():
        raise ValueError(f"{name}: expected |u1 or <f4, found {typestr} with {tensor.lanes} lanes")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = None
    if tensor.strides:
        strides = tuple(tensor.strides[axis] * (tensor.bits // 8) for axis in range(tensor.ndim))
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, typestr, shape, strides, (given, capsule))
