"""The shape of the source: imports run downwards, packages are listed, hooks are documented."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("adapters", "core", "plugins", "cli")
PACKAGES = {
    "adapters": ("errors", "methods", "format", "store", "remotes", "card"),
    "core": (
        "errors",
        "tasks",
        "plugin_system",
        "data",
        "backbones",
        "trunk",
        "inference",
        "training",
        "interop",
        "sharing",
        "client",
        "serving",
        "testing",
    ),
    "core/serving": ("engine", "http", "cluster"),
}
"""Packages of a folder, in the order of imports: each may import only those before it."""
CONTRACT = ("onetrunk.core.errors", "onetrunk.core.tasks", "onetrunk.core.data.formats.conll")
MAY_IMPORT = {
    "adapters": ("onetrunk.adapters",),
    "core": ("onetrunk.core", "onetrunk.adapters"),
    "plugins": ("onetrunk.plugins", *CONTRACT),
    "cli": ("onetrunk.cli", "onetrunk.core", "onetrunk.adapters"),
}
MOST_MODULES = 18
"""Modules that a package may have, so that its list can be read at a glance."""
MOST_LINES, MOST_PARAMETERS = 50, 6
"""Of a function; settings travel as one record."""
NO_TORCH = (
    "core/tasks/__init__.py",
    "core/tasks/records.py",
    "core/tasks/spec.py",
    "core/tasks/hookspecs.py",
    "core/tasks/losses.py",
    "core/tasks/text_tasks.py",
    "core/errors.py",
    "core/plugin_system/host.py",
    "adapters/format/manifest.py",
    "adapters/store/store.py",
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    name = name_of(path).removesuffix(".py").removesuffix("/__init__")
    return f"onetrunk.{name.replace('/', '.')}"


MODULES = frozenset(map(module_of, SOURCES))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import, those within functions and for type checkers too.

    Of `from x import y` it is x.y where that is a module of ours, else x.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} has a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name if name in MODULES else str(node.module) for name in inner}
            yield from ((node.lineno, module) for module in sorted(modules))


def inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def needed(name: str, extras: frozenset[str], known: set[tuple[str, frozenset[str]]]) -> None:
    """Add to `known` what an installed distribution needs here, with all that this needs in turn."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:  # the peers of benchmarks/ may be left out
        return
    for own in map(Requirement, lines):
        wanted = own.marker is None or any(own.marker.evaluate({"extra": each}) for each in {"", *extras})
        key = (canonicalize_name(own.name), frozenset(own.extras))
        if wanted and key not in known:
            known.add(key)
            needed(*key, known)


def test_every_dependency_is_pinned() -> None:
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    known: set[tuple[str, frozenset[str]]] = set()
    needed("onetrunk", frozenset({"minilm", "dev", "bench", "ray"}), known)
    unpinned = {name for name, _ in known} - set(map(canonicalize_name, pinned))
    assert unpinned <= {"onetrunk"}  # which its own extras name


def test_the_lock_file_has_a_hash_and_the_version_of_constraints_for_every_dependency() -> None:
    pinned = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    )
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    entry = re.compile(
        r"^([\w.-]+)==([^\s;]+)[^\n]*((?:\n    --hash=sha256:[0-9a-f]{64}[ \\]*)+)", re.MULTILINE
    )
    text = (ROOT / "requirements.lock").read_text("utf-8")
    locked = {canonicalize_name(name): version for name, version, _ in entry.findall(text)}
    assert len(locked) == len(re.findall(r"^\w", text, re.MULTILINE))  # none without a hash
    assert {name: pinned[name] for name in locked if name in pinned} == {
        name: version for name, version in locked.items() if name in pinned
    }
    extras = PYPROJECT["project"]["optional-dependencies"]
    lines = [line for extra in ("minilm", "card", "parquet", "serve") for line in extras[extra]]
    known: set[tuple[str, frozenset[str]]] = set()
    for own in map(Requirement, [*PYPROJECT["project"]["dependencies"], *lines]):
        known.add((canonicalize_name(own.name), frozenset(own.extras)))
        needed(canonicalize_name(own.name), frozenset(own.extras), known)
    assert {name for name, _ in known} - locked.keys() == set()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_run_only_downwards(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ours = [(line, module) for line, module in imports_of(path) if inside(module, ("onetrunk",))]
    assert [f"{line}: {module}" for line, module in ours if not inside(module, allowed)] == []


@pytest.mark.parametrize("folder", PACKAGES)
def test_packages_import_only_those_before_them(folder: str) -> None:
    names = [f"onetrunk.{folder}.{package}".replace("/", ".") for package in PACKAGES[folder]]
    wrong = []
    for index, name in enumerate(names):
        later = tuple(names[index + 1 :])
        for path in (path for path in SOURCES if inside(module_of(path), (name,))):
            found = ((line, module) for line, module in imports_of(path) if inside(module, later))
            wrong += [f"{name_of(path)}:{line}: {module}" for line, module in found]
    assert wrong == []


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_folder_of_packages_has_those_that_are_listed_and_hardly_a_module(folder: str) -> None:
    entries = [path for path in (ROOT / folder).iterdir() if path.name != "__pycache__"]
    found = {path.stem for path in entries if path.suffix == ".py" or path.is_dir()}
    assert found == {"__init__", *PACKAGES[folder]}


def test_no_package_is_longer_than_a_glance() -> None:
    counts = Counter(path.parent for path in SOURCES if path.name != "__init__.py")
    counts.pop(ROOT / "cli" / "commands")  # one module a command
    assert {name_of(folder): n for folder, n in counts.items() if n > MOST_MODULES} == {}


def test_no_modules_import_each_other() -> None:
    edges = {
        module_of(path): {module for _, module in imports_of(path)} & MODULES - {module_of(path)}
        for path in SOURCES
    }
    TopologicalSorter(edges).prepare()  # raises CycleError with the modules of a cycle


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_package_of_ours_is_imported_by_its_bare_name(path: Path) -> None:
    assert [
        f"{line}: {module}" for line, module in imports_of(path) if inside(module, (*ROOMS, "tests"))
    ] == []


def test_every_package_folder_is_listed_in_pyproject() -> None:
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = {path.parent for path in SOURCES}
    expected = {f"onetrunk.{folder.relative_to(ROOT).as_posix().replace('/', '.')}" for folder in folders}
    assert set(setuptools["packages"]) == {"onetrunk", *expected}
    rooms = {f"onetrunk.{room}": room for room in ROOMS}
    assert setuptools["package-dir"] == {"onetrunk": "src/onetrunk", **rooms}


def test_every_package_folder_says_that_it_is_typed_and_has_an_init() -> None:
    for folder in sorted({path.parent for path in SOURCES}):
        assert (folder / "__init__.py").is_file(), name_of(folder)
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file(), room


def test_type_checkers_see_every_room() -> None:
    links, root = ROOT / "tests" / "ns" / "onetrunk", ROOT / "src" / "onetrunk"
    files = {name: root / name for name in ("__init__.py", "py.typed")}
    found = {link.name: link.resolve() for link in links.iterdir() if link.name != "__pycache__"}
    assert found == {**files, **{room: ROOT / room for room in ROOMS}}


@pytest.mark.parametrize("name", NO_TORCH)
def test_what_lists_tasks_and_adapters_imports_no_torch_at_its_top(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
    assert [module for module in modules if inside(module, ("torch", "transformers", "peft", "numpy"))] == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_module_is_a_dumping_ground(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "misc", "other", "common")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in given)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES or count > MOST_PARAMETERS:
                wrong.append(f"{node.name}: {lines} lines, {count} parameters")
    assert wrong == []


def test_no_public_class_name_is_used_twice() -> None:
    found: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(name_of(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_a_test_file_is_about_one_subject(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def documents() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def hooks() -> dict[str, str]:
    from onetrunk.core.tasks import hookspecs

    found = {
        name: ", ".join(inspect.signature(function).parameters)
        for name, function in vars(hookspecs).items()
        if hasattr(function, f"{hookspecs.PROJECT}_spec")
    }
    assert "tasks" in found
    return found


def test_every_hook_is_documented_with_its_exact_arguments() -> None:
    text = documents()
    assert [
        f"{name}({arguments})" for name, arguments in hooks().items() if f"{name}({arguments})" not in text
    ] == []


def test_no_document_names_a_hook_that_is_not_there() -> None:
    table = re.findall(r"^\| `(\w+)\(([\w, ]*)\)` \|", documents(), re.MULTILINE)
    assert {name: arguments for name, arguments in table if name not in hooks()} == {}


def test_every_option_of_pyproject_that_names_a_plugin_is_a_module() -> None:
    points = PYPROJECT["project"]["entry-points"]["onetrunk.plugins"]
    modules = {
        f"onetrunk.plugins.{path.stem}" for path in (ROOT / "plugins").glob("*.py") if path.stem != "__init__"
    }
    assert set(points.values()) == modules


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_no_test_replaces_our_own_code(path: Path) -> None:
    modules = {module for _, module in imports_of(path)}
    assert not any(inside(module, ("unittest.mock", "mock", "pytest_mock")) for module in modules)
    assert "monkeypatch.setattr" not in path.read_text(encoding="utf-8").replace('"monkeypatch.setattr"', "")
