"""Has cargo build what the package carries: libawsnet, the command, the demo model.

    pip install ./python        from a checkout, with Rust; kernels for GPUs are compiled where nvcc is (AWSNET_NVCC)
    AWSNET_GLIBC=2.28 pip wheel --no-deps ./python
                                for every Linux with this glibc or a newer one; wants cargo-zigbuild, from PyPI

A hook of its own, and not setuptools-rust: what is built is a C library and a program, not a module of Python's, and
one wheel of a platform serves every Python.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ABI_VERSION = 1
GLIBC = os.environ.get("AWSNET_GLIBC", "")
LICENSES = ("LICENSE-APACHE", "LICENSE-MIT")
MODELS = ("demo.safetensors", "README.md", "NOTICE")


def version() -> str:
    manifest = ROOT / "Cargo.toml"
    if not manifest.exists():
        sys.exit(f"{HERE}: expected a checkout of awsnet around this folder, found no {manifest}")
    return re.search(r'^version = "(.+)"$', manifest.read_text(), re.MULTILINE)[1]


class Native(build_py):
    def run(self) -> None:
        super().run()
        package = HERE / "awsnet" if self.editable_mode else Path(self.build_lib, "awsnet")
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        cargo, common, built = "cargo", ["--release", "--locked", "--no-default-features"], target / "release"
        common += ["--manifest-path", ROOT / "Cargo.toml", "--target-dir", target]
        if GLIBC:
            triple = f"{platform.machine()}-unknown-linux-gnu"
            cargo, common, built = (
                "cargo-zigbuild",
                [*common, "--target", f"{triple}.{GLIBC}"],
                target / triple / "release",
            )
        # pip hides the packages of the environment by PYTHONPATH, and cargo-zigbuild's zig is one of them.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        soname = f"-Clink-arg=-Wl,-soname,libawsnet.so.{ABI_VERSION}"
        for what, features, flags in (
            (["--lib", "--crate-type", "cdylib"], "capi,cuda,face", [soname]),
            (["--bin", "awsnet"], "cli,cuda", []),
        ):
            command = [cargo, "rustc", *what, "--features", features, *common, "--", "-Cstrip=symbols", *flags]
            subprocess.run(command, check=True, env=environment)
        (package / "bin").mkdir(parents=True, exist_ok=True)
        (package / "models").mkdir(exist_ok=True)
        shutil.copy2(built / "libawsnet.so", package / f"libawsnet.so.{ABI_VERSION}")
        shutil.copy2(built / "awsnet", package / "bin/awsnet")
        for name in MODELS:
            shutil.copy2(ROOT / "models" / name, package / "models" / name)
        for name in LICENSES:
            shutil.copy2(ROOT / name, package / name)


class OfAPlatform(bdist_wheel):
    """py3-none-PLATFORM: there is no module of Python's in it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        system = f"manylinux_{GLIBC.replace('.', '_')}_{platform.machine()}" if GLIBC else super().get_tag()[2]
        return "py3", "none", system


class Binary(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(version=version(), cmdclass={"build_py": Native, "bdist_wheel": OfAPlatform}, distclass=Binary)
