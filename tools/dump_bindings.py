"""Write the names of TensorRT's bindings into tests/engines/bindings, or compare them with what is there.

    python tools/dump_bindings.py            compares; ends with an error where a file is not what the bindings give
    python tools/dump_bindings.py --write    writes the files anew

A file holds for each class, by name, its bases and its public members; a member's value is the name of the class that
it gives (what a method returns, a property holds, a nested class is): one of the module, or a plain one of Python. It
is empty where the bindings do not say.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import bindings

FOLDER = Path(__file__).resolve().parent.parent / "tests/engines/bindings"
_PLAIN = ("None", "bool", "bytes", "float", "int", "memoryview", "str")
# Runs in a process of its own: no two releases can be imported into one.
_PROGRAM = r"""
import importlib, inspect, json, re
module = importlib.import_module({module!r})
classes = {{}}
def walk(name, kind):
    known = {{}}
    classes[name] = {{"bases": [base.__name__ for base in kind.__bases__ if base.__module__ == module.__name__],
                     "members": known}}
    for key, value in vars(kind).items():
        if key.startswith("_"):
            continue
        if inspect.isclass(value) and value.__module__ == module.__name__:
            known[key] = f"{{name}}.{{key}}"
            walk(known[key], value)
            continue
        asked = value.fget if isinstance(value, property) else value
        text = (getattr(asked, "__doc__", None) or "") if callable(asked) else ""
        found = re.search(r"-> ([\w.]+)", text)
        known[key] = found.group(1).removeprefix(module.__name__ + ".") if found else ""
top = {{}}
for key, value in vars(module).items():
    if key.startswith("_"):
        continue
    top[key] = key if inspect.isclass(value) else ""
    if inspect.isclass(value):
        walk(key, value)
for entry in classes.values():
    for key, value in entry["members"].items():
        if value not in classes and value not in {plain!r}:
            entry["members"][key] = ""
print(json.dumps({{"module": top, "classes": classes}}))
"""


def names_of(library: bindings.Bindings) -> str:
    """Return the text of a library's file: one line for each class, sorted."""
    found = json.loads(library.python(_PROGRAM.format(module=library.module, plain=_PLAIN)))
    lines = [
        f"  {json.dumps(name)}: {json.dumps(entry, sort_keys=True)}" for name, entry in sorted(found["classes"].items())
    ]
    head = {"library": library.library, "version": library.version, "module": dict(sorted(found["module"].items()))}
    body = json.dumps(head, indent=1).removesuffix("\n}")
    return f'{body},\n "classes": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def main() -> None:
    """Compare or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the files anew")
    write = parser.parse_args().write
    different = []
    with tempfile.TemporaryDirectory() as folder:
        libraries = [bindings.fetch(release, Path(folder)) for release in bindings.RELEASES]
        for library in (*libraries, bindings.installed_rtx()):
            file, text = FOLDER / f"{library.name}.json", names_of(library)
            if write:
                file.write_text(text)
            elif not file.is_file() or file.read_text() != text:
                different.append(file.name)
    if different:
        raise SystemExit(f"not what the bindings give: {', '.join(different)}; run `make bindings`")
    print(f"{len(bindings.RELEASES) + 1} files {'written' if write else 'are what the bindings give'}")


if __name__ == "__main__":
    main()
