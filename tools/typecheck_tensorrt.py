"""Hold the TensorRT and CUDA code against the libraries' own types: `make typecheck-tensorrt`.

Stubs are generated from the real bindings each time and not kept. cuda.core ships its types, but below a folder that
type checkers do not look into, so they are laid out anew. Then `mypy --strict` runs once for each release.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bindings
from bindings import Bindings

ROOT = Path(__file__).resolve().parent.parent
#: One release of each major version; TensorRT-RTX is checked beside them and, as `tensorrt`, in their place.
RELEASES = ("tensorrt-cu12-bindings==10.16.1.11", "tensorrt-cu13-bindings==11.4.0.106")
_ENGINES = ROOT / "workflow/scripts/stagebench/engines"
SOURCES = sorted([*_ENGINES.glob("tensorrt/*.py"), *(_ENGINES / f"{name}.py" for name in ("cuda", "tensorrt_rtx"))])
_CONFIG = """[mypy]
strict = True
warn_unused_ignores = False
plugins = pydantic.mypy
mypy_path = {stubs}:{scripts}
python_version = 3.11
cache_dir = {cache}
untyped_calls_exclude = cuda.core
[mypy-tensorrt.*,tensorrt_rtx.*,cuda.core.*]
ignore_errors = True
implicit_reexport = True
[mypy-cuda.bindings.*,pynvml.*]
ignore_missing_imports = True
"""
# Names that 11 and TensorRT-RTX no longer have, and one that cuda.core never had: a check that lets them pass checks
# nothing.
_REMOVED = """import tensorrt
from cuda.core import Device
from stagebench.engines.tensorrt.api import TensorRT
def removed(trt: TensorRT, config: tensorrt.IBuilderConfig, engine: tensorrt.ICudaEngine) -> None:
    config.set_flag(trt.BuilderFlag.FP16)
    config.int8_calibrator = None
    print(engine.device_memory_size)
    Device(0).set_courant()
"""
# Methods that work without being in the bindings' own tables.
_MISSING = {
    "IHostMemory": "def __buffer__(self, flags: int, /) -> memoryview: ...",
    "Dims": "def __iter__(self) -> typing.Iterator[int]: ...",
}


def main() -> None:
    """Check the sources against every release; end with an error where one does not fit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rtx = bindings.installed_rtx()
        released = [bindings.fetch(release, folder) for release in RELEASES]
        failed = [library.name for library in (*released, rtx) if not fits(library, rtx, folder)]
    if failed:
        raise SystemExit(f"the sources do not fit {', '.join(failed)}")


def fits(library: Bindings, rtx: Bindings, folder: Path) -> bool:
    """Type-check the sources for which `tensorrt` is a library; print what mypy finds and say whether it is nothing."""
    stubs = folder / f"stubs-{library.name}"
    write_stub(library, stubs / "tensorrt/__init__.pyi")
    write_stub(rtx, stubs / "tensorrt_rtx/__init__.pyi")
    lay_out_cuda_core(stubs / "cuda/core")
    config = stubs / "mypy.ini"
    config.write_text(
        _CONFIG.format(stubs=stubs, scripts=ROOT / "workflow/scripts", cache=folder / f"cache-{library.name}")
    )
    found = mypy(config, *SOURCES)
    print(f"{library.name}: {found}", flush=True)
    removed = stubs / "removed.py"
    removed.write_text(_REMOVED)
    missing = mypy(config, removed).count("[attr-defined]")
    wanted = 1 if library.version.startswith("10.") else 4
    if missing != wanted:
        raise SystemExit(f"{library.name}: the check finds {missing} of {wanted} names that do not exist")
    return found.startswith("Success")


def mypy(config: Path, *sources: Path) -> str:
    """Return what mypy says of sources."""
    command: list[str | Path] = [sys.executable, "-m", "mypy", "--config-file", config, *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


def write_stub(library: Bindings, stub: Path) -> None:
    """Generate a library's stub by pybind11-stubgen and make it what a type checker reads."""
    out = stub.parent / "generated"
    generator = (sys.executable, "-m", "pybind11_stubgen", library.module, "--output-dir", str(out))
    bindings.run(*generator, "--ignore-all-errors", environment=library.environment)
    stub.write_text(repaired(out.joinpath(*library.module.split(".")).with_suffix(".pyi").read_text()))
    shutil.rmtree(out)


def repaired(stub: str) -> str:
    """Return a generated stub that a type checker reads to the end and that says what the bindings do.

    A parameter is named `in`. The modules' own `bool`, a data type, hides Python's. What takes `Dims` also takes a
    tuple, and `Dims` can be iterated over. A progress monitor is called with integers. Host memory has the buffer
    protocol. One method has a parameter without a default after some that have one.
    """
    text = re.sub(r"\bin: ", "in_: ", stub)
    text = re.sub(r"(?<=[:>\[|] )bool\b|(?<=\[)bool\b", "builtins.bool", text)
    text = re.sub(r"(\w+: )Dims\b", r"\1Dims | tuple[int, ...]", text)
    text = text.replace("import typing\n", "import builtins\nimport typing\n", 1)
    text = re.sub(r"(num_steps|step): typing\.SupportsInt", r"\1: int", text)
    for name, method in _MISSING.items():
        text = text.replace(f"class {name}:\n", f"class {name}:\n    {method}\n", 1)
    lines = text.split("\n")
    while (wrong := _line_of_error(lines)) is not None:
        anything = re.sub(r"\(.*\)( ->.*)?:", r"(self, *args: typing.Any, **kwargs: typing.Any)\1:", lines[wrong])
        if anything == lines[wrong]:
            raise SystemExit(f"the generated stub cannot be read at: {anything.strip()}")
        lines[wrong] = anything
    return "\n".join(lines)


def _line_of_error(lines: list[str]) -> int | None:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


def lay_out_cuda_core(target: Path) -> None:
    """Copy cuda.core's own types to where its import finds them at run time: the folder of the CUDA version in use."""
    found = importlib.util.find_spec("cuda.core")
    if found is None or found.origin is None:
        raise SystemExit("cuda.core is not installed")
    outer = Path(found.origin).parent
    [typed] = [file.parent for file in outer.glob("cu13/py.typed")]

    def others(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if not (name.endswith((".py", ".pyi")) or (Path(folder) / name).is_dir())]

    shutil.copytree(typed, target, ignore=others)
    shutil.copy(outer / "__init__.py", target)
    for package in target.rglob("__init__.py"):  # mypy reads no list of names that is put together from others
        package.write_text(re.sub(r"^__all__ = \[\n(    \*.*\n)+\]", "", package.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    main()
