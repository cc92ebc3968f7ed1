"""Every face of many pictures, by Ray Data: a folder of pictures, or Parquet files of their bytes, to Parquet.

    python faces.py PICTURES OUT [--model MODEL] [--actors 1]

PICTURES is a folder of picture files; or a Parquet file, or a folder of them, with the columns `path` (any name) and
`bytes` (a picture's file). OUT gets a row a face: path, where the face is, the best label and the probability of every
label; and a row for each picture that cannot be read, with `error`. A picture without a face has no row.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import awsnet
import ray.data
from PIL import Image

if TYPE_CHECKING:
    import pandas


class Faces:
    """An actor: an engine and a detector of its own, made once."""

    def __init__(self, model: str) -> None:
        """Make them. model: a path that every node can read."""
        self.engine = awsnet.Engine(model, batch=16, threads=1)
        self.detector = awsnet.Detector(min_face=24, threads=1)

    def __call__(self, batch: pandas.DataFrame) -> pandas.DataFrame:
        """Give a row a face for rows of path and bytes."""
        import pandas

        pictures, paths, errors = [], [], []
        for path, data in zip(batch["path"], batch["bytes"], strict=True):
            try:
                pictures.append(Image.open(io.BytesIO(data)).convert("RGB"))
                paths.append(path)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
                errors.append({"path": path, "error": str(problem)})
        found = self.engine.predict(pictures, detect=self.detector).to_pandas()
        found.insert(0, "path", [paths[number] for number in found.pop("picture")])
        found["error"] = None
        # Every batch has the same columns of the same types, with faces in it or without.
        words = {"path", "error", *(head.name for head in self.engine.heads.values() if head.kind == "classes")}
        types = {name: "string" if name in words else "float32" for name in found.columns}
        told = pandas.DataFrame(errors, columns=["path", "error"]).reindex(columns=found.columns)
        return pandas.concat([found.astype(types), told.astype(types)], ignore_index=True)


def faces(pictures: str, model: str, actors: int) -> ray.data.Dataset:
    """Give a row a face of the pictures in a folder or in Parquet files."""
    path = Path(pictures)
    if path.suffix == ".parquet" or any(path.glob("*.parquet")):
        rows = ray.data.read_parquet(pictures).select_columns(["path", "bytes"])
    else:
        rows = ray.data.read_binary_files(pictures, include_paths=True)
    options: dict[str, Any] = {"batch_size": 16, "batch_format": "pandas", "concurrency": actors, "num_cpus": 1}
    return rows.map_batches(Faces, fn_constructor_args=(model,), **options)


def main() -> int:
    """Run it as a program."""
    parser = argparse.ArgumentParser(description="Every face of many pictures, to Parquet.")
    parser.add_argument("pictures", metavar="PICTURES")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--model", default=str(awsnet.DEMO))
    parser.add_argument("--actors", type=int, default=1, help="each takes a processor")
    options = parser.parse_args()
    faces(options.pictures, options.model, options.actors).write_parquet(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
