"""The bound on the size of responses."""

from __future__ import annotations

import json

import pytest

from onetrunk.adapters.format.bounds import MAX_LABEL_CHARACTERS, MAX_LABELS, MAX_PROBE_CHARACTERS
from onetrunk.adapters.format.manifest import Probe, _check_labels, _check_probe
from onetrunk.core.tasks.spec import label_faults
from tests.core.serving.conftest import Serve, ask


def test_a_request_whose_answers_would_be_too_large_is_refused_before_it_is_computed(serve: Serve) -> None:
    with serve(response_bytes=1000) as service:
        response = service.predict(*[ask("good", "mood", "mood@1")] * 40)
        results = response.json()["results"]
        assert sum("answers" in each for each in results) == 1
        problem = results[1]["error"]
        assert (problem["type"], problem["status"]) == ("/problems/response-too-large", 413)
        assert "at most 1000 are allowed; send fewer inputs or adapters in a request" in problem["detail"]
        assert service.predict(ask("good", "mood", "mood@1", "mood", "mood@1")).status_code == 413


def test_a_response_that_turns_out_too_large_is_refused(serve: Serve) -> None:
    """The answer repeats parts of the text, which the estimate does not count."""
    with serve(response_bytes=600, characters=5000) as service:
        response = service.predict(ask("ada like london " * 300, "names"))
        assert response.status_code == 413, response.text[:300]
        assert "the response has over 600 bytes, the limit" in response.json()["detail"]


def test_a_line_of_a_stream_is_refused_alone(serve: Serve) -> None:
    lines = [ask("good", *["mood"] * 8), ask("good", "mood")]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    with serve(response_bytes=8 * 1500) as service:
        response = service.client.post(
            "/v1/predict/stream", content=body, headers={"Content-Type": "application/x-ndjson"}
        )
    first, second = map(json.loads, response.text.splitlines())
    assert first["error"]["type"] == "/problems/response-too-large"
    assert len(second["answers"]) == 1


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (tuple(map(str, range(MAX_LABELS + 1))), f"{MAX_LABELS + 1} labels"),
        (("a", "b" * (MAX_LABEL_CHARACTERS + 1)), f"of {MAX_LABEL_CHARACTERS + 1} characters"),
    ],
)
def test_labels_are_bounded_in_artifacts_and_in_training(labels: tuple[str, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        _check_labels(labels)
    (fault,) = label_faults(labels)
    assert what in fault
    assert len(fault) < 200
    assert not list(label_faults(labels[:1]))


def test_the_texts_of_a_probe_are_bounded() -> None:
    with pytest.raises(ValueError, match=f"a text of {MAX_PROBE_CHARACTERS + 1} characters"):
        _check_probe(Probe(texts=("x" * (MAX_PROBE_CHARACTERS + 1),), logits=([],)))
