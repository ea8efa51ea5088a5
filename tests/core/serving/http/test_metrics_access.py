"""What a token sees of the metrics, and the metric of unknown tokens."""

from __future__ import annotations

import hashlib

import pytest

from onetrunk.core.serving.http.auth import Access, Grant
from tests.core.serving.conftest import Running, Serve, ask

SCOPES = {"all": {"metrics"}, "some": {"metrics"}, "admin": {"admin"}, "user": {"predict"}}
PATTERNS = {"some": ("mood*",)}


def token(name: str) -> str:
    return f"the-token-of-{name:8}".replace(" ", "-")


def headers(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(name)}"}


ACCESS = Access(
    {
        hashlib.sha256(token(name).encode()).digest(): Grant(name, frozenset(scopes), PATTERNS.get(name))
        for name, scopes in {**SCOPES, "both": {"predict", "metrics"}}.items()
    }
)


def seen(service: Running, name: str) -> set[str]:
    """Return the values of the label `adapter` in the metrics that a token sees."""
    answer = service.client.get("/metrics", headers=headers(name))
    assert answer.status_code == 200
    assert "onetrunk_queue_tokens" in answer.text
    return {part.partition('"')[0] for part in answer.text.split('adapter="')[1:]}


def test_a_token_sees_the_metrics_of_the_adapters_that_it_may_use(serve: Serve) -> None:
    with serve(access=ACCESS) as service:
        service.predict(ask("good", "mood", "names", "mood@1"), headers=headers("both"))
        assert {"mood", "names", "mood@1"} <= seen(service, "all")
        assert {"mood", "names", "mood@1"} <= seen(service, "admin")
        assert seen(service, "some") == {"mood", "mood@1"}
        refused = service.client.get("/metrics", headers=headers("user"))
        assert refused.status_code == 403
        assert "lacks the scope 'metrics'" in refused.json()["detail"]
        assert service.predict(ask("good"), headers=headers("all")).status_code == 403


def value(service: Running, name: str) -> float:
    lines = service.client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


@pytest.mark.parametrize(("text", "unknown"), [("the film is great", 0), ("電影 很 好 看", 4), ("", 0)])
def test_unknown_tokens_are_counted_by_adapter(serve: Serve, text: str, unknown: int) -> None:
    with serve() as service:
        service.predict(ask(text, "mood", "names"))
        found = value(service, 'onetrunk_adapter_unknown_tokens_total{adapter="mood"}'.partition("{")[0])
        tokens = value(service, "onetrunk_adapter_tokens_total")
        assert (found > 0) == (unknown > 0)
        assert found <= tokens
        assert (tokens > 0) == bool(text)


def test_the_unknown_tokens_of_a_text_of_several_windows_are_counted_once(serve: Serve) -> None:
    with serve() as service:
        service.predict(ask("電 " * 300, "mood"))
        assert value(service, "onetrunk_adapter_tokens_total") == 300
        assert value(service, "onetrunk_adapter_unknown_tokens_total") == 300
