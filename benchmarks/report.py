"""What was measured, on what: a JSON file that grows as results come, and Markdown tables."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy import machine

PEERS = ("numpy", "safetensors", "accelerate", "onnx", "onnxruntime", "onnxscript")
SERVERS = ("fastapi", "uvicorn", "uvloop", "httptools", "pydantic")


def environment(device: torch.device) -> dict[str, Any]:
    """Describe device, threads and library versions; None for a library that is not installed."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        **machine(),
        **{library: _version(library) for library in (*PEERS, *SERVERS)},
        "device": name,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


class Report:
    """The results in a JSON file, by key; written after each, so that nothing measured is lost."""

    def __init__(self, path: Path, again: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not again else {}
        self.results: dict[str, dict[str, Any]] = kept.get("results", {})

    def __contains__(self, key: str) -> bool:
        return key in self.results

    def add(self, key: str, result: Mapping[str, Any], device: torch.device) -> None:
        """Record `result` with its date and environment, on disk at once."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self.results[key] = {**result, "date": date, "environment": environment(device)}
        text = json.dumps({"results": self.results}, indent=1, sort_keys=True, allow_nan=False)
        self._path.write_text(text + "\n", encoding="utf-8")


def title(key: str, backbone: str, device: torch.device, few: bool) -> str:
    """Return the name of a workload's record; that of a run of seconds is never to be taken for a real one's."""
    return f"{'quick ' if few else ''}{backbone.rpartition('/')[2]} {device.type}: {key}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
