"""The package as users get it: a wheel with all files, the public names, and types that mypy accepts."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import onetrunk

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("src", "adapters", "core", "plugins", "cli")
NO_TORCH = "import sys, onetrunk; assert onetrunk.__version__; assert 'torch' not in sys.modules"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source, built outside of it."""
    folder = tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / "source" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(folder / "source")], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel, and with the dependencies that are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def in_environment(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "ONETRUNK_HOME": str(folder / "store"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert onetrunk.__version__ == version("onetrunk")


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in onetrunk.__all__ if not hasattr(onetrunk, name)] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'onetrunk' has no attribute 'Trunk'"):
        onetrunk.Trunk  # type: ignore[attr-defined]  # noqa: B018


def test_the_wheel_has_every_file_of_the_source(wheel: Path) -> None:
    rooms = {room: ROOT / room for room in ROOMS[1:]} | {"": ROOT / "src" / "onetrunk"}
    expected = {
        "/".join(filter(None, ("onetrunk", room, path.relative_to(folder).as_posix())))
        for room, folder in rooms.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_installed_wheel_imports_without_torch_and_runs_the_command(python: Path, tmp_path: Path) -> None:
    done = in_environment(python, "-c", NO_TORCH, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = in_environment(python, "-m", "onetrunk.cli.main", "plugins", "--json", folder=tmp_path)
    assert '"tasks": ["ner"]' in listed.stdout, listed.stderr


@pytest.mark.slow  # mypy reads the types of all dependencies first
def test_mypy_accepts_the_python_of_the_readme_against_the_wheel(python: Path, tmp_path: Path) -> None:
    pattern = r"(?:<!-- plugin: (\S+) -->\n)?```python\n(.*?)```"
    snippets = re.findall(pattern, (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(snippets) >= 5
    for number, (name, snippet) in enumerate(snippets):
        (tmp_path / (name or f"snippet_{number}.py")).write_text(snippet, encoding="utf-8")
    files = sorted(map(str, tmp_path.glob("*.py")))
    strict = ("--strict", "--python-executable", str(python), "--cache-dir", str(tmp_path / "cache"))
    line = [sys.executable, "-m", "mypy", *strict, *files]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
