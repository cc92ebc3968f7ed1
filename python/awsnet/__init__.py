"""Facial expression recognition by AWS-Net: emotions and action units (AUs), on CPUs and NVIDIA GPUs.

    import awsnet

    engine = awsnet.Engine(awsnet.DEMO, batch=8)
    predictions = engine.predict("pictures/", detect=True)  # paths, a folder, PIL pictures, arrays; a row a face
    print(predictions["emotion"].best(), predictions["au"].active())

    with engine.session() as session:                  # images of the network's size, any number, as fast as it goes
        scores = session.run(images)                   # uint8 [N, H, W, C], or float32 [N, C, H, W], normalised
        print(scores["emotion"].probabilities)

Arrays that lie as the library reads them are passed as they lie. The GIL is released during every call, so threads with
a session each run at once. `python -m awsnet` is the command line.
"""

from pathlib import Path

from ._c import ABI_VERSION, ArgumentError, DeadlineError, Error, set_log, version
from .engine import (
    AFFINITIES,
    DEVICES,
    KINDS,
    PRECISIONS,
    SPIN_ALWAYS,
    SPIN_NONE,
    Cancel,
    Engine,
    Model,
    Pool,
    Session,
)
from .faces import FORMATS, POINTS, Detector, Face, Frame
from .predictions import Head, HeadScores, Predictions

_models = Path(__file__).with_name("models")
DEMO = (_models if _models.exists() else Path(__file__).parents[2] / "models") / "demo.safetensors"
"""The demo model; `README.md` beside it says what it was trained on, and what it is not for."""

__version__ = version()

__all__ = [
    "ABI_VERSION",
    "AFFINITIES",
    "DEMO",
    "DEVICES",
    "FORMATS",
    "KINDS",
    "POINTS",
    "PRECISIONS",
    "SPIN_ALWAYS",
    "SPIN_NONE",
    "ArgumentError",
    "Cancel",
    "DeadlineError",
    "Detector",
    "Engine",
    "Error",
    "Face",
    "Frame",
    "Head",
    "HeadScores",
    "Model",
    "Pool",
    "Predictions",
    "Session",
    "set_log",
    "version",
]
