"""Test kit for plugin authors: small encoders, and a check that a task follows the contract.

    def test_my_task_follows_the_contract():
        check_task(my_plugin.SPEC, [{"text": "fine", "label": "good"}, {"text": "bad", "label": "poor"}])

`check_task` runs the code of `adapters train` and `adapters predict`, without mock objects.
"""

from __future__ import annotations

from onetrunk.core.testing.conformance import check_task
from onetrunk.core.testing.tiny_backbone import TinyModel, TinyShape, tiny_backbone

__all__ = ["TinyModel", "TinyShape", "check_task", "tiny_backbone"]
