"""Prometheus metrics: what is counted, and the bound on labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from onetrunk.core.serving.engine.errors import AnswerFailed, QueueFull
from onetrunk.core.serving.http.prometheus import MAX_LABELS, OTHER, Metrics
from tests.core.serving.conftest import Gated, Running, Serve, ask


def samples(page: str) -> dict[tuple[str, str], float]:
    """Return the values by the name of the sample and its labels, as in `type="queue-full"`."""
    return {
        (
            sample.name,
            ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def scraped(service: Running) -> dict[tuple[str, str], float]:
    answer = service.client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def test_everything_is_counted(serve: Serve) -> None:
    with serve() as service:
        service.predict(ask("good", "mood", "names"), ask("good", "nobody"), 3)
        service.predict(ask("good", "nobody"))
        service.client.get("/nowhere")
        service.client.put("/v1/adapters/new", json={"ref": "mood@1"})
        service.client.put("/v1/adapters/new", json={"ref": "mood@2"})
        service.client.put("/v1/adapters/new", json={"ref": "mood@3"})
        service.client.delete("/v1/adapters/new")
        found = scraped(service)
    expected = {
        ("onetrunk_requests_total", "route=/v1/predict,status=200"): 1,
        ("onetrunk_requests_total", "route=/v1/predict,status=404"): 1,
        ("onetrunk_requests_total", "route=other,status=404"): 1,
        ("onetrunk_request_seconds_count", "route=/v1/predict"): 2,
        ("onetrunk_requests_total", "route=/v1/adapters/{name},status=201"): 1,
        ("onetrunk_errors_total", "type=unknown-adapter"): 2,
        ("onetrunk_errors_total", "type=invalid-request"): 1,
        ("onetrunk_errors_total", "type=unknown-reference"): 1,
        ("onetrunk_errors_total", "type=not-found"): 1,
        ("onetrunk_adapter_answers_total", "adapter=mood"): 1,
        ("onetrunk_adapter_seconds_count", "adapter=names"): 1,
        ("onetrunk_batch_texts_sum", ""): 1,
        ("onetrunk_batch_adapters_sum", ""): 2,
        ("onetrunk_queue_wait_seconds_count", ""): 1,
        ("onetrunk_queue_tokens", ""): 0,
        ("onetrunk_loads_total", ""): 2,
        ("onetrunk_swaps_total", ""): 1,
        ("onetrunk_failed_loads_total", ""): 1,
        ("onetrunk_unloads_total", ""): 1,
        ("onetrunk_names", ""): 3,
        ("onetrunk_adapters", "tier=device"): 3,
        ("onetrunk_adapters", "tier=host"): 0,
        ("onetrunk_adapters", "tier=disk"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert found["onetrunk_batch_tokens_sum", ""] > 0
    assert found["onetrunk_adapter_bytes", "tier=device"] > 0
    assert found["process_resident_memory_bytes", ""] > 0


def test_the_queue_is_shown_while_it_waits(gated: Callable[..., Gated]) -> None:
    held = gated()
    held.hold()
    waiting = [held.begin(ask("good")) for _ in range(3)]
    assert held.queued(3)
    found = scraped(held.service)
    held.gate.opened.set()
    assert [each.result(30).status_code for each in waiting] == [200] * 3
    assert found["onetrunk_queue_texts", ""] == 3
    assert found["onetrunk_queue_tokens", ""] > 3


def test_a_route_is_counted_by_its_pattern_and_never_by_its_path(service: Running) -> None:
    for number in range(50):
        service.client.get(f"/v1/adapters/x{number}")
        service.client.get(f"/x{number}")
    routes = {labels for name, labels in scraped(service) if name == "onetrunk_requests_total"}
    assert not [labels for labels in routes if "x1" in labels]


def test_the_first_hundred_names_have_labels_of_their_own() -> None:
    metrics = Metrics()
    for number in range(3 * MAX_LABELS):
        for _ in range(2):
            metrics.answered(f"adapter-{number}", 0.1)
    found = samples(metrics.render().decode())
    rows = {
        labels: value for (name, labels), value in found.items() if name == "onetrunk_adapter_answers_total"
    }
    assert len(rows) == MAX_LABELS + 1
    assert rows[f"adapter={OTHER}"] == 2 * 2 * MAX_LABELS
    assert rows["adapter=adapter-0"] == 2


def test_errors_are_counted_by_the_version_that_failed(gated: Callable[..., Gated]) -> None:
    service = gated().service
    service.predict(ask("bomb"), ask("bomb"), ask("good"), ask("good", "nobody"))
    rows = {
        labels: value for (name, labels), value in scraped(service).items() if "adapter_errors_total" in name
    }
    assert rows == {"adapter=mood@2,type=internal": 2}


def test_the_first_hundred_failed_versions_have_labels_of_their_own() -> None:
    metrics = Metrics()
    for number in range(3 * MAX_LABELS):
        metrics.failed(AnswerFailed(f"ner@{number}"))
    found = samples(metrics.render().decode())
    rows = {labels: value for (name, labels), value in found.items() if "adapter_errors_total" in name}
    assert len(rows) == MAX_LABELS + 1
    assert rows[f"adapter={OTHER},type=internal"] == 2 * MAX_LABELS


def answered(page: str) -> set[str]:
    return {labels for name, labels in samples(page) if name == "onetrunk_adapter_answers_total"}


def test_a_name_that_is_unloaded_frees_its_label(serve: Serve) -> None:
    with serve() as service:
        for number in range(MAX_LABELS + 5):
            name = f"customer-{number}"
            assert service.client.put(f"/v1/adapters/{name}", json={"ref": "mood@1"}).status_code == 201
            assert service.predict(ask("good", name)).status_code == 200
            service.client.delete(f"/v1/adapters/{name}")
            assert answered(service.client.get("/metrics").text) == set()
        service.predict(ask("good", "mood"))
        assert answered(service.client.get("/metrics").text) == {"adapter=mood"}


def test_a_label_that_is_freed_and_used_again_counts_from_zero(serve: Serve) -> None:
    with serve() as service:
        for _ in range(2):
            service.client.put("/v1/adapters/new", json={"ref": "mood@1"})
            service.predict(ask("good", "new"))
            found = scraped(service)
            service.client.delete("/v1/adapters/new")
            scraped(service)
    assert found["onetrunk_adapter_answers_total", "adapter=new"] == 1
    assert found["onetrunk_adapter_seconds_count", "adapter=new"] == 1


def test_unloaded_versions_free_their_labels_if_none_is_left(serve: Serve) -> None:
    with serve() as service:
        metrics = service.app.service.metrics
        for number in range(MAX_LABELS):
            metrics.failed(AnswerFailed(f"gone@{number}"))
        metrics.failed(AnswerFailed("mood@2"))  # which serves, and has no label yet
        scraped(service)
        metrics.failed(AnswerFailed("mood@2"))
        found = scraped(service)
    rows = {labels: value for (name, labels), value in found.items() if "adapter_errors_total" in name}
    assert rows == {f"adapter={OTHER},type=internal": 1, "adapter=mood@2,type=internal": 1}


def test_two_services_of_one_process_have_separate_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.failed(QueueFull(9, 8, 1))
    assert samples(one.render().decode())["onetrunk_errors_total", "type=queue-full"] == 1
    assert ("onetrunk_errors_total", "type=queue-full") not in samples(other.render().decode())


@pytest.mark.parametrize("text", ["secret-text-123"])
def test_no_text_gets_into_the_metrics(service: Running, text: str) -> None:
    service.predict(ask(text), ask(text, "nobody"))
    assert text not in service.client.get("/metrics").text
