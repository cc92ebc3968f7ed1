"""Says where figures come from: the machine, and the version of everything that was measured."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def describe(awsnet: Path) -> dict[str, Any]:
    """Describe this machine and what is installed."""
    return {
        "date": str(datetime.date.today()),
        "cpu": _cpu(),
        "cores": json.loads(_output(awsnet, "doctor", "--json"))["cpu"]["threads"],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": _versions(awsnet),
    }


def _cpu() -> str:
    processor = Path("/proc/cpuinfo").read_text().split("\n\n")[0]  # of the first
    pairs = (line.split(":", 1) for line in processor.splitlines())
    named = {name.strip(): value.strip() for name, value in pairs}
    model = named.get("model name", platform.processor() or "unknown")
    vector = [name for name in ("avx2", "avx512f", "amx_tile") if name in named.get("flags", "").split()]
    return f"{model} (family {named.get('cpu family', '?')} model {named.get('model', '?')}; {', '.join(vector)})"


def _output(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.strip()


def _versions(awsnet: Path) -> dict[str, str]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=ROOT)
    lock = tomllib.loads((ROOT / "bench-compare/rust-peers/Cargo.lock").read_text())
    locked = {package["name"]: package["version"] for package in lock["package"]}
    return {
        "awsnet": f"{_output(awsnet, '--version').removeprefix('awsnet ')} ({commit.stdout.strip() or 'no git'})",
        "onnxruntime": _installed("onnxruntime"),
        "openvino": _installed("openvino"),
        "pytorch": _installed("torch"),
        "tract": locked["tract-onnx"],
        "candle": locked["candle-core"],
        "rustc": _output("rustc", "--version").split()[1],
        "python": platform.python_version(),
    }


def _installed(package: str) -> str:
    """Give the version of a package; a comparison of some libraries needs no others."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
