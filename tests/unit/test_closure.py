"""What a script depends on: which modules, and which part of their text."""

import ast
import textwrap

import pytest

from stagebench.errors import StagebenchError
from stagebench.job import closure

ROOT = closure._file_of("stagebench").parent
SCRIPTS = ROOT.parent
# From the ground up; a room imports from itself and from those before it.
ROOMS = ["records", "host", "job", "dataset", "model", "engines", "measure"]
GROUND = ["errors", "vocabulary", "preprocessing", "quantisation", "registry"]


def reached(script):
    return set(closure.closure(SCRIPTS / script))


def test_a_script_reaches_the_modules_of_its_stage():
    found = reached("prepare_variant.py")
    assert "stagebench.model.variants" in found
    assert "stagebench.dataset.decode.images" in found
    assert not any(name.startswith(("stagebench.engines", "stagebench.measure", "stagebench.report")) for name in found)


def test_what_is_compiled_only_where_it_is_needed_counts_all_the_same():
    assert "stagebench.dataset.decode.kernels" in reached("run_inference.py")


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_no_stage_reaches_the_plumbing(script):
    found = reached(script)
    assert not any(closure.is_plumbing(name) for name in found)
    assert "stagebench.host.environment" not in found


def test_the_timed_runs_reach_no_engine_and_no_protocol():
    """They are found by name: each cell carries the digest of its own."""
    for script in ("run_inference.py", "build_engine.py"):
        found = reached(script)
        for name in ("openvino", "onnxruntime", "noop", "tensorrt", "torch"):
            assert f"stagebench.engines.{name}" not in found
        assert not any(name.startswith("stagebench.measure.protocols.") for name in found)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A user's package on the path: an engine with a helper, and a module that it does not use."""
    folder = tmp_path / "mypackage"
    folder.mkdir()
    for name, text in {
        "__init__.py": "",
        "mychip.py": "from mypackage import helper\n\n\ndef late():\n    from . import deep\n    return deep, helper\n",
        "helper.py": "import json\nVALUE = 1\n",
        "deep.py": "VALUE = 1\n",
        "unused.py": "VALUE = 1\n",
    }.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def now(name="mypackage.mychip"):
    for cached in (closure._imports, closure._code, closure._file_of):
        cached.cache_clear()
    return closure.module_digest(name)


def test_the_digest_follows_what_is_reached_and_nothing_else(package):
    before = now()
    (package / "unused.py").write_text("VALUE = 2\n")
    assert now() == before
    for name in ("helper.py", "deep.py"):
        changed = now()
        (package / name).write_text("VALUE = 2\n")
        assert now() != changed


def test_a_module_outside_the_repository_reaches_its_own_code_and_no_library(package):
    found = closure.closure(package / "mychip.py", "mypackage.mychip")
    assert sorted(found) == ["mypackage", "mypackage.deep", "mypackage.helper", "mypackage.mychip"]


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(StagebenchError, match=r"'no_such\.module' is not found; install it, or put its folder"):
        closure.module_digest("no_such.module")


def made(name):
    for cached in (closure._imports, closure._code, closure._file_of):
        cached.cache_clear()
    return closure.made_of(name)


def test_an_architecture_is_made_of_its_own_code_and_of_the_distributions_that_this_imports(package):
    (package / "helper.py").write_text("import json\nimport torch.nn\nfrom PIL import Image\nVALUE = 1\n")
    before = made("mypackage.mychip.make")
    assert before == (now(), ("pillow", "torch"))
    assert made("mypackage.mychip.Network.make") == before
    (package / "helper.py").write_text("# A remark.\nimport json\nimport torch.nn\nfrom PIL import Image\nVALUE = 1\n")
    assert made("mypackage.mychip.make") == before
    (package / "deep.py").write_text("VALUE = 2\n")
    assert made("mypackage.mychip.make").code != before.code


def test_an_architecture_of_a_distribution_is_made_of_that_alone():
    assert made("torchvision.models.resnet50") == ("", ("torchvision",))


def test_folders_without_init_are_packages_too(tmp_path, monkeypatch):
    (tmp_path / "nets" / "small").mkdir(parents=True)
    (tmp_path / "nets" / "small" / "net.py").write_text("from nets.small import parts\n")
    (tmp_path / "nets" / "small" / "parts.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = made("nets.small.net.make")
    (tmp_path / "nets" / "small" / "parts.py").write_text("VALUE = 2\n")
    assert before.code
    assert made("nets.small.net.make").code not in ("", before.code)


@pytest.mark.parametrize(
    ("text", "words"),
    [("def make(:\n", "cannot be read: invalid syntax"), ("x = '\0'\n", "cannot be read"), (None, "is found; install")],
    ids=["syntax", "zero byte", "no such module"],
)
def test_an_architecture_that_cannot_be_looked_into_is_told_in_one_line(text, words, package):
    if text is not None:
        (package / "helper.py").write_text(text)
    with pytest.raises(StagebenchError, match=words) as error:
        made("mypackage.mychip.make" if text else "no_such.module.make")
    assert "\n" not in str(error.value)


SOURCE = '''
"""A module."""

import math  # for pi


class Circle:
    """A circle.

    Of a radius.
    """

    def area(self, radius: float) -> str:
        """Return its area."""
        name = f"{'area':>{10}} of {radius!r}: {math.pi * radius ** 2:.3f} {{}}"
        return name + rf"\\n{self.__class__.__name__}"
'''
# Of the tokens of SOURCE, the same on Python 3.11 to 3.13. If it changes, every stage of every user reruns.
EXPECTED = "6a598ce4c8e1c9c4"


def digest(source):
    import hashlib

    return hashlib.sha256("\0".join(closure.code_tokens(textwrap.dedent(source))).encode()).hexdigest()[:16]


def test_the_algorithm_is_frozen():
    assert digest(SOURCE) == EXPECTED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# for pi", "# for the number pi, among others"),
        ('"""A module."""', '"""Another text.\n\nWith lines.\n"""'),
        ('        """Return its area."""\n', ""),
        ("import math  # for pi\n", "import math\n\n\n# A remark.\n"),
        ("def area(self, radius: float) -> str:", "def area(\n        self,\n        radius: float\n    ) -> str:"),
    ],
    ids=["comment", "docstring", "no docstring", "blank lines", "layout"],
)
def test_what_is_no_code_is_no_part_of_it(old, new):
    assert old in SOURCE
    assert digest(SOURCE.replace(old, new)) == EXPECTED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2:.3f", "3:.3f"),
        ("'area'", "'Area'"),
        ("return name", "return 2 * name"),
        ("math.pi *", "math.e *"),
        ("{{}}", "{{ }}"),
    ],
)
def test_every_change_of_code_is_part_of_it(old, new):
    assert old in SOURCE
    assert digest(SOURCE.replace(old, new)) != EXPECTED


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    """The room of a dotted module of the package: the part after its name."""
    parts = module.split(".")
    return parts[1] if parts[0] == "stagebench" and len(parts) > 1 else None


@pytest.mark.parametrize("room", [*ROOMS, "report"])
def test_a_room_imports_from_rooms_before_it_only(room):
    allowed = {*GROUND, room, *(["records"] if room == "report" else ROOMS[: ROOMS.index(room)])}
    for path in (ROOT / room).rglob("*.py"):
        for module in imported(path):
            assert room_of(module) in (None, *allowed), f"{path.name} imports {module}"


def test_the_ground_imports_nothing_from_above_it_and_nobody_imports_the_config():
    for position, name in enumerate(GROUND):
        for module in imported(ROOT / f"{name}.py"):
            assert room_of(module) in (None, *GROUND[:position]), f"{name} imports {module}"
    for path in [*ROOT.rglob("*.py"), *SCRIPTS.glob("*.py")]:
        for module in imported(path):
            assert room_of(module) != "config" or path.name == "config_docs.py", f"{path.name} imports {module}"
