"""TensorRT's real Python bindings without TensorRT: wheels from the package index, behind libraries that only link.

The wheels of the bindings are small and on PyPI; the libraries that they link against are not. The loader asks for
libraries of the right names with the right symbols, no more. So the bindings import behind three that are compiled
here from a few lines of C. Names, enumerations, signatures and docstrings are real then, and nothing can be called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

#: The releases that the sources are held against.
RELEASES = (
    "tensorrt-cu12-bindings==10.13.3.9",
    "tensorrt-cu12-bindings==10.16.1.11",
    "tensorrt-cu13-bindings==11.0.0.114",
    "tensorrt-cu13-bindings==11.4.0.106",
)
# What the bindings look up in each library, with readelf's eyes: undefined symbols of the extension module.
_SYMBOLS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvonnxparser": ("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion"),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
}


@dataclass(frozen=True)
class Bindings:
    """An extension module that can be imported in a process with this environment."""

    #: The library as users import it, and its version.
    library: str
    version: str
    #: The extension module that holds everything.
    module: str
    environment: dict[str, str]

    @property
    def name(self) -> str:
        """Return the name of its file of names."""
        return f"{self.library}-{self.version}"

    def python(self, code: str) -> str:
        """Run a program in a process of its own, in which the module can be imported; return what it prints."""
        return run(sys.executable, "-c", code, environment=self.environment)


def fetch(release: str, folder: Path) -> Bindings:
    """Download a release's bindings into `folder` and compile what they link against.

    Raises:
        SystemExit: the package index or the compiler does not do its part; the text says which.
    """
    if shutil.which("gcc") is None:
        raise SystemExit("gcc is missing: install a C compiler (libraries that the bindings link against are made)")
    version = release.rpartition("==")[2]
    wheels, unpacked, libraries = folder / "wheels", folder / version / "wheel", folder / version / "lib"
    libraries.mkdir(parents=True)
    run(sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(wheels), release)
    [wheel] = wheels.glob(f"*-{version}-*.whl")
    zipfile.ZipFile(wheel).extractall(unpacked)
    for library, symbols in _SYMBOLS.items():
        source = libraries / f"{library}.c"
        source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
        soname = f"lib{library}.so.{version.partition('.')[0]}"
        run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(libraries / soname), str(source))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(unpacked)}
    return Bindings("tensorrt", version, "tensorrt_bindings.tensorrt", environment)


def installed_rtx() -> Bindings:
    """Return TensorRT-RTX's bindings, which the development environment has installed with their libraries."""
    import tensorrt_rtx

    return Bindings("tensorrt_rtx", tensorrt_rtx.__version__, "tensorrt_rtx_bindings.tensorrt_rtx", dict(os.environ))


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it prints.

    Raises:
        SystemExit: it failed; the text has what it said.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
