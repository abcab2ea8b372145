"""What a script depends on."""

import ast

import pytest

from stagebench import closure

ROOMS = ["dataset", "model", "engines", "measure"]


def reached(script):
    return {
        path.relative_to(closure.ROOT).as_posix()
        for path in closure.closure(closure.ROOT.parent / script)
        if path.is_relative_to(closure.ROOT)
    }


def test_a_script_reaches_the_modules_of_its_stage():
    found = reached("prepare_variant.py")
    assert "model/variants.py" in found
    assert "dataset/images.py" in found
    assert not any(name.startswith(("engines/", "measure/", "report/")) for name in found)


def test_no_stage_reaches_the_plumbing():
    for script in closure.ROOT.parent.glob("*.py"):
        assert not reached(script.name) & closure.PLUMBING


def test_the_timed_runs_reach_no_engine_file():
    """Engines are found by name: each cell carries its own engine's digest."""
    for script in ("run_inference.py", "build_engine.py"):
        assert not {f"engines/{name}.py" for name in ("openvino", "onnxruntime", "noop", "tensorrt")} & reached(script)


def test_the_digest_follows_the_contents(tmp_path, monkeypatch):
    package = tmp_path / "stagebench"
    (package / "room").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "room/__init__.py": "",
        "room/used.py": "VALUE = 1\n",
        "room/unused.py": "VALUE = 1\n",
    }.items():
        (package / name).write_text(text)
    script = tmp_path / "script.py"
    script.write_text("def late():\n    from stagebench.room.used import VALUE\n    return VALUE\n")
    monkeypatch.setattr(closure, "ROOT", package)

    def now():
        closure._imports.cache_clear()
        return closure.closure_digest(script)

    before = now()
    (package / "room/unused.py").write_text("VALUE = 2\n")
    assert now() == before
    (package / "room/used.py").write_text("VALUE = 2\n")
    assert now() != before


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", [*ROOMS, "report"])
def test_a_room_imports_from_rooms_before_it_only(room):
    allowed = [] if room == "report" else ROOMS[: ROOMS.index(room)]
    forbidden = {f"stagebench.{other}" for other in [*ROOMS, "report"] if other not in (*allowed, room)}
    for path in (closure.ROOT / room).rglob("*.py"):
        for module in imported(path):
            assert ".".join(module.split(".")[:2]) not in forbidden, f"{path.name} imports {module}"


def test_shared_files_import_no_room_but_the_registry():
    rooms = {f"stagebench.{room}" for room in [*ROOMS, "report"]}
    for path in closure.ROOT.glob("*.py"):
        for module in imported(path):
            if ".".join(module.split(".")[:2]) in rooms:
                assert path.name in ("config.py", "config_docs.py"), f"{path.name} imports {module}"
                assert module.startswith("stagebench.engines"), f"{path.name} imports {module}"
