"""Reading of `serve.toml`: values, defaults, and errors that name the file and the key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from onetrunk.core.errors import UsageError
from onetrunk.core.serving.engine.config import LimitOptions, ServeConfig, check_name


def written(folder: Path, text: str) -> Path:
    file = folder / "serve.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_example_in_the_documentation_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "serving.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(# serve\.toml.*?)```", text, flags=re.DOTALL)
    read = ServeConfig.read(written(tmp_path, example))
    assert (read.port, read.max_wait_ms, read.adapters) == (8000, 1.0, {"people": "ner@prod"})
    assert read.limits_on("cpu").characters == 32768
    assert read.token_file == str(tmp_path / "tokens.toml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert ServeConfig.read(written(tmp_path, "")) == ServeConfig()


def test_options_win_over_the_file(tmp_path: Path) -> None:
    read = ServeConfig.read(written(tmp_path, "port = 1\nhost = '::1'\nmax_queue = 5\n"))
    chosen = read.chosen(port=2, host=None, max_queue=None)
    assert (chosen.port, chosen.host, chosen.max_queue) == (2, "::1", 5)


def test_a_missing_limit_is_the_default_of_the_device() -> None:
    cpu, cuda = (ServeConfig(max_wait_ms=5).limits_on(device) for device in ("cpu", "cuda"))
    assert cpu.wait_ms == cuda.wait_ms == 5
    assert cpu.batch_tokens < cuda.batch_tokens


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("port = '80'", "port must be a whole number, not '80'"),
        ("port = true", "port must be a whole number, not True"),
        ("port = 1.5", "port must be a whole number"),
        ("host = 1", "host must be a string"),
        ("max_wait_ms = 'x'", "max_wait_ms must be a number"),
        ("prot = 1", "has the unknown key 'prot'; known: host, port"),
        ("adapters = ['ner']", "adapters must be a table, not this list"),
        ("[adapters]\nner = 3", "adapters.ner must be a string, not 3"),
        ("[adapters]\n'a b' = 'ner'", "adapters has the key 'a b', which must be up to 100 letters, digits"),
        ("[limits]\ninput = 3", "limits has the unknown key 'input'; known: inputs"),
        ("[limits]\ninputs = 3.5", "limits.inputs must be a whole number"),
        ("port = 1\nport = 2", "is not TOML"),
        ("port = 'x'\nhost = 1", "host must be .*; port must be"),
    ],
)
def test_a_fault_is_reported_with_the_file_and_the_key(tmp_path: Path, text: str, fault: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=fault) as error:
        ServeConfig.read(file)
    assert str(error.value).startswith(f"{file}: ")


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"serve\.toml: cannot be read: No such file"):
        ServeConfig.read(tmp_path / "serve.toml")
    (tmp_path / "latin.toml").write_bytes(b"host = '\xff'")
    with pytest.raises(UsageError, match="is not UTF-8"):
        ServeConfig.read(tmp_path / "latin.toml")


@pytest.mark.parametrize("limits", [{"inputs": 0}, {"request_seconds": 0}, {"body_bytes": -1}])
def test_a_limit_out_of_range_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(limits))} is .*; expected a number of at least"):
        ServeConfig(limits=LimitOptions(**limits)).limits_on("cpu")


@pytest.mark.parametrize("name", ["", "a/b", "-a", ".a", "a b", "é", "x" * 101])
def test_an_invalid_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid adapter name"):
        check_name(name)


def test_reading_a_configuration_loads_no_torch() -> None:
    program = "import sys; import onetrunk.core.serving.engine.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
