"""The kit of plugin authors: a tiny real backbone, and a check that a task keeps the contract.

    def test_my_task_keeps_the_contract(tmp_path):
        check_task(my_plugin.SPEC, [{"text": "fine", "label": "good"}, {"text": "bad", "label": "poor"}])

`check_task` takes the same path as `adapters train` and `adapters predict`: nothing in it is a stand-in.
"""

from __future__ import annotations

from onetrunk.core.testing.check import check_task
from onetrunk.core.testing.tiny_backbone import TinyModel, tiny_backbone

__all__ = ["TinyModel", "check_task", "tiny_backbone"]
