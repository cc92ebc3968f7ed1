"""Faces in frames as a camera or OpenCV gives them, BGR, with a deadline for each, by several threads at once.

    python frames.py [--threads 2] [--frames 30] [--deadline-ms 1000]

The frames are made here, examples/group.png moved about in a larger one; `frames` is where a camera's would come from.
A thread has a session and a detector of its own, and all share the engine. No frame is copied.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import awsnet
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURE = Path(__file__).parents[1] / "group.png"


def frames(count: int) -> Iterator[NDArray[np.uint8]]:
    """Give frames, uint8 [H, W, 3], blue first."""
    picture = np.asarray(Image.open(PICTURE).convert("RGB"))[..., ::-1]
    height, width = picture.shape[:2]
    for number in range(count):
        frame = np.zeros((height + 32, width + 32, 3), np.uint8)
        left = number % 32
        frame[16 : 16 + height, left : left + width] = picture
        yield frame


class Worker(threading.local):
    """What each thread has of its own."""

    def __init__(self, engine: awsnet.Engine) -> None:
        """Make it, when the thread first comes here."""
        self.engine = engine
        self.detector, self.session = awsnet.Detector(threads=1), engine.session()

    def look(self, frame: NDArray[np.uint8], deadline_us: int) -> list[str]:
        """Give the emotions of the faces in a frame, or none where the network has not ended in time."""
        faces = self.detector.detect(frame, "bgr")
        images = [self.engine.cut(frame, face, "bgr") for face in faces]
        try:
            return self.session.run(images, timeout_us=deadline_us)["emotion"].best()
        except awsnet.DeadlineError:
            return []


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description="Faces in frames, by several threads at once.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--deadline-ms", type=int, default=1000)
    options = parser.parse_args()
    worker = Worker(awsnet.Engine(awsnet.DEMO, device="cpu", batch=8, threads=1))
    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        looked = pool.map(lambda frame: worker.look(frame, 1000 * options.deadline_ms), frames(options.frames))
        for number, emotions in enumerate(looked):
            print(number, *(emotions or ["too late, or nobody there"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
