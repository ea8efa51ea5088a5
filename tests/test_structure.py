"""The shape of the source: imports run downwards, packages are listed, hooks are documented."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("adapters", "core", "plugins", "cli")
CONTRACT = tuple(
    f"onetrunk.core.{name}"
    for name in (
        "tasks",
        "hookspecs",
        "errors",
        "words",
        "heads",
        "losses",
        "metrics",
        "entity_metrics",
        "tag_paths",
        "data.conll",
    )
)
MAY_IMPORT = {
    "adapters": ("onetrunk.adapters",),
    "core": ("onetrunk.core", "onetrunk.adapters"),
    "plugins": ("onetrunk.plugins", *CONTRACT),
    "cli": ("onetrunk.cli", "onetrunk.core", "onetrunk.adapters"),
}
NO_TORCH = (
    "core/tasks.py",
    "core/hookspecs.py",
    "core/errors.py",
    "core/plugin_host.py",
    "adapters/manifest.py",
    "adapters/store.py",
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import, those within functions too; of `from x import y` both x and x.y."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno} has a relative import"
            yield node.lineno, node.module or ""
            if node.module in ("onetrunk", "onetrunk.core", "onetrunk.core.data"):
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


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


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_run_only_downwards(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ours = [(line, module) for line, module in imports_of(path) if inside(module, ("onetrunk",))]
    # `from onetrunk.core import tasks` names the package too, which by itself says nothing.
    wrong = [
        f"{line}: {m}"
        for line, m in ours
        if not inside(m, allowed) and m not in ("onetrunk", "onetrunk.core")
    ]
    assert wrong == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_package_of_ours_is_imported_by_its_bare_name(path: Path) -> None:
    assert [
        f"{line}: {module}" for line, module in imports_of(path) if inside(module, (*ROOMS, "tests"))
    ] == []


def test_every_package_folder_is_listed_in_pyproject() -> None:
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = {path.parent for path in SOURCES}
    expected = {f"onetrunk.{folder.relative_to(ROOT).as_posix().replace('/', '.')}" for folder in folders}
    assert set(setuptools["packages"]) == expected
    assert setuptools["package-dir"] == {f"onetrunk.{room}": room for room in ROOMS}


def test_every_package_folder_says_that_it_is_typed_and_has_an_init() -> None:
    for folder in sorted({path.parent for path in SOURCES}):
        assert (folder / "__init__.py").is_file(), name_of(folder)
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file(), room


def test_type_checkers_see_every_room() -> None:
    links = ROOT / "tests" / "ns" / "onetrunk"
    assert {link.name: link.resolve() for link in links.iterdir()} == {room: ROOT / room for room in ROOMS}


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


def documents() -> str:
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())


def hooks() -> dict[str, str]:
    from onetrunk.core import hookspecs

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
