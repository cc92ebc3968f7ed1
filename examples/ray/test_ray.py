"""The examples on a cluster of this machine, held against `Engine.predict` in this process."""

import io
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import awsnet
import numpy as np
import pandas as pd
from PIL import Image
from service import app

import ray
from faces import Faces, faces
from ray import serve

EXAMPLES = Path(__file__).parents[1]
PORT = 18723


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    # Actors import the modules beside this file by name.
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=200_000_000,
        runtime_env=environment,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        shutil.copy(EXAMPLES / "group.png", folder / f"group-{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def expected() -> awsnet.Predictions:
    return awsnet.Engine(awsnet.DEMO, batch=16, threads=1).predict(EXAMPLES / "group.png", detect=True)


def check(rows: pd.DataFrame, expected: awsnet.Predictions) -> None:
    assert [Path(path).name for path in rows[rows["error"].notna()]["path"]] == ["broken.png"]
    rows = rows[rows["error"].isna()]
    assert len(rows) == 3 * expected.count > 9
    labels = expected["au"].labels
    for _, of_a_picture in rows.groupby("path"):
        of_a_picture = of_a_picture.sort_values("face_score", ascending=False)
        assert list(of_a_picture["emotion"]) == expected["emotion"].best()
        np.testing.assert_array_equal(of_a_picture[labels].to_numpy(np.float32), expected["au"].probabilities)


def test_a_folder_becomes_parquet(pictures: Path, expected: awsnet.Predictions, tmp_path: Path) -> None:
    faces(str(pictures), str(awsnet.DEMO), 1).write_parquet(str(tmp_path / "out"))
    check(pd.read_parquet(tmp_path / "out"), expected)


def test_parquet_becomes_parquet(pictures: Path, expected: awsnet.Predictions, tmp_path: Path) -> None:
    rows = [{"path": path.name, "bytes": path.read_bytes()} for path in sorted(pictures.iterdir())]
    pd.DataFrame(rows).to_parquet(tmp_path / "in.parquet")
    faces(str(tmp_path / "in.parquet"), str(awsnet.DEMO), 1).write_parquet(str(tmp_path / "out"))
    check(pd.read_parquet(tmp_path / "out"), expected)


def test_every_batch_has_the_same_columns() -> None:
    """Faces or none, pictures or none: the files of a data set are of one schema."""
    blank = io.BytesIO()
    Image.new("RGB", (64, 48), "grey").save(blank, "png")
    group = (EXAMPLES / "group.png").read_bytes()
    actor = Faces(str(awsnet.DEMO))
    batches = [[group], [blank.getvalue()], [b""], [group, b"", blank.getvalue()]]
    found = [actor(pd.DataFrame({"path": ["x"] * len(batch), "bytes": batch})) for batch in batches]
    assert [len(rows) > 0 for rows in found] == [True, False, True, True]
    for rows in found:
        assert rows.dtypes.to_dict() == found[0].dtypes.to_dict()


def post(body: bytes) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", data=body, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as problem:
        return problem.code, json.load(problem)


def test_a_picture_is_posted(expected: awsnet.Predictions) -> None:
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(app, name="awsnet")
    try:
        status, answer = post((EXAMPLES / "group.png").read_bytes())
        assert (status, len(answer["faces"])) == (200, expected.count)
        assert [face["emotion"] for face in answer["faces"]] == [heads["emotion"] for heads in expected.to_dicts()]
        status, answer = post(b"no picture")
        assert (status, answer["error"][:38]) == (400, "body: expected a picture, found cannot")
    finally:
        serve.shutdown()
