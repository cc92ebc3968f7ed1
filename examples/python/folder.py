"""Every face of a folder of pictures, a line of JSON each.

    python folder.py FOLDER [--model MODEL] [--device cuda]

A picture that cannot be read is a line with `error`, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import awsnet

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp"}


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description="Every face of a folder of pictures, a line of JSON each.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="searched recursively")
    parser.add_argument("--model", default=awsnet.DEMO)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    options = parser.parse_args()
    engine, code = awsnet.Engine(options.model, device=options.device, batch=16), 0
    for path in sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            found = engine.predict(path, detect=True)
        except (OSError, ValueError) as problem:
            print(json.dumps({"image": str(path), "error": str(problem)}))
            code = 1
            continue
        for (_, face), heads in zip(found.faces or [], found.to_dicts(), strict=True):
            print(json.dumps({"image": str(path), "box": [face.x, face.y, face.width, face.height], **heads}))
    return code


if __name__ == "__main__":
    sys.exit(main())
