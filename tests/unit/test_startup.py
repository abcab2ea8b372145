"""A job pays for the libraries that its stage needs, and for no others, before its first useful work."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "onnx", "onnxsim", "onnxruntime", "openvino", "tensorrt_rtx", "numba", "pandas")
# script -> what of that it loads at once; the engines are loaded by the child processes that open them.
LOADED = {
    "make_sample": [],
    "download_archive": [],
    "extract_dataset": [],
    "link_dataset": [],
    "decode_pixels": [],
    "probe_device": [],
    "build_engine": [],
    "run_validation": [],
    "run_inference": [],
    "prepare_variant": ["onnx", "onnxruntime"],
    "write_report": ["pandas"],
    "check_stages": [],
}


@pytest.mark.parametrize("script", LOADED)
def test_a_script_loads_only_what_its_stage_needs(repository, script):
    code = (
        "import json, runpy, sys\n"
        "runpy.run_path(sys.argv[1], run_name='imported')\n"
        "print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))"
    )
    scripts = repository / "workflow/scripts"
    done = subprocess.run(
        [sys.executable, "-c", code, scripts / f"{script}.py", json.dumps(HEAVY)],
        env={"PYTHONPATH": str(scripts)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == LOADED[script]
