"""The check that a plugin can be imported without torch, in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from onetrunk.core.tasks.spec import FUNCTIONS, TaskSpec

_LOADS_TORCH = "import importlib, sys; importlib.import_module(sys.argv[1]); print('torch' in sys.modules)"


def import_faults(spec: TaskSpec) -> Iterator[str]:
    """Yield a message for each module of a task that cannot be imported by itself, or that imports torch."""
    modules = {str(getattr(getattr(spec, name), "__module__", "")) for name in FUNCTIONS}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for module in sorted(module for module in modules if not module.startswith("onetrunk.core.")):
        line = [sys.executable, "-c", _LOADS_TORCH, module]
        run = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            yield f"{module} cannot be imported by itself: {run.stderr.strip().splitlines()[-1]}"
        elif run.stdout.split()[-1] == "True":
            yield f"importing {module} loads torch; import torch inside the functions that need it"
