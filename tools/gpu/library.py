#!/usr/bin/env python3
"""libawsnet on this machine's GPU through its C interface, with no more than Python and the driver.

library.py LIBRARY MODEL              runs from the host and queued runs, f16 on the GPU, against the reference
library.py LIBRARY MODEL --times      medians between two events around a run queued behind other work, the L2 warm and cold
"""

import argparse
import ctypes
import json
import random
import statistics
from array import array

import awsnet_c
import cuda_driver

EVICTION_BYTES = 512 << 20  # several times the L2 of any GPU
WARM_UP_RUNS = 10


def random_images(session: awsnet_c.Session) -> ctypes.Array:
    numbers = random.Random(1)
    count = session.batch * session.image_len
    return (ctypes.c_float * count).from_buffer(array("f", (numbers.uniform(-2.0, 2.0) for _ in range(count))))


def distance(found: list[float], expected: list[float]) -> float:
    """The norm of the difference as a share of the norm."""
    norm = sum(e * e for e in expected) ** 0.5
    return sum((f - e) ** 2 for f, e in zip(found, expected, strict=True)) ** 0.5 / norm


class Queued:
    """A batch on the device, and a run over it."""

    def __init__(self, device: cuda_driver.Device, session: awsnet_c.Session, images: ctypes.Array) -> None:
        self._device, self._session = device, session
        pixels = device.alloc(ctypes.sizeof(images))
        device.upload(pixels, images)
        self._logits = [device.alloc(4 * session.batch * labels) for labels in session.labels]
        self.run = session.queue(device.stream.value, pixels, self._logits)

    def logits(self) -> list[list[float]]:
        pairs = zip(self._logits, self._session.labels, strict=True)
        return [self._device.download(address, self._session.batch * labels) for address, labels in pairs]


def check(library: awsnet_c.Library, model: str) -> None:
    device = cuda_driver.Device()
    f16, f32 = awsnet_c.PRECISION_F16, awsnet_c.PRECISION_F32
    reference = awsnet_c.Session(library, model, awsnet_c.DEVICE_REFERENCE, 3, f32)
    session = awsnet_c.Session(library, model, awsnet_c.DEVICE_CUDA, 3, f16)
    images = random_images(session)
    expected, from_host = reference.run(images), session.run(images)
    queued = Queued(device, session, images)
    queued.run()
    for name, found in (("from the host", from_host), ("queued", queued.logits())):
        worst = max(distance(f, e) for f, e in zip(found, expected, strict=True))
        print(f"{name}: {worst:.2e} of the reference's norm")
        if not worst <= 1e-2:
            raise SystemExit(f"{name}: logits are off by {worst:.2e} of their norm, at most 1e-2 allowed")
    session.close()
    reference.close()


def times(library: awsnet_c.Library, model: str, batch: int, runs: int) -> dict:
    device = cuda_driver.Device()
    session = awsnet_c.Session(library, model, awsnet_c.DEVICE_CUDA, batch, awsnet_c.PRECISION_F16)
    queued = Queued(device, session, random_images(session))
    evicted = device.alloc(EVICTION_BYTES)
    events = [device.event() for _ in range(3)]
    cold, warm = [], []
    for turn in range(runs + WARM_UP_RUNS):
        # All is queued while the device still writes, so that none of the time is the host's.
        device.fill(evicted, EVICTION_BYTES)
        device.record(events[0])
        queued.run()
        device.record(events[1])
        queued.run()
        device.record(events[2])
        device.synchronize()
        if turn >= WARM_UP_RUNS:
            cold.append(device.microseconds(events[0], events[1]))
            warm.append(device.microseconds(events[1], events[2]))
    session.close()
    row: dict = {"model": model.rsplit("/", 1)[-1], "batch": batch, "runs": runs}
    return row | {"warm_us": round(statistics.median(warm), 2), "cold_us": round(statistics.median(cold), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("model")
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--batch", default="1,8,64")
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    library = awsnet_c.Library(arguments.library)
    if not arguments.times:
        check(library, arguments.model)
        return
    for batch in map(int, arguments.batch.split(",")):
        print(json.dumps(times(library, arguments.model, batch, arguments.runs)), flush=True)


if __name__ == "__main__":
    main()
