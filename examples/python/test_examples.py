"""The examples as programs, held against `Engine.predict`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import awsnet

HERE = Path(__file__).parent
GROUP = HERE.parent / "group.png"


def run(*arguments: object) -> tuple[int, list[str]]:
    command = [sys.executable, *map(str, arguments)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert told.stderr == ""
    return told.returncode, told.stdout.splitlines()


def test_a_folder_is_a_line_a_face(tmp_path: Path) -> None:
    shutil.copy(GROUP, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    code, lines = run(HERE / "folder.py", tmp_path, "--device", "cpu")
    *faces, broken = map(json.loads, lines)
    expected = awsnet.Engine(awsnet.DEMO, device="cpu", batch=16).predict(GROUP, detect=True)
    assert code == 1
    assert "b.png: expected a picture" in broken["error"]
    assert [{name: face[name] for name in expected} for face in faces] == expected.to_dicts()
    assert len(faces) > 4


def test_frames_are_looked_at_by_threads_in_order() -> None:
    code, lines = run(HERE / "frames.py", "--frames", 4, "--deadline-ms", 60_000)
    assert code == 0
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"]
    assert all(len(line.split()) > 5 for line in lines)
    labels = awsnet.Engine(awsnet.DEMO).heads["emotion"].labels
    assert all(set(line.split()[1:]) <= set(labels) for line in lines)
