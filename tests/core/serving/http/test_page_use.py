"""The playground in use: waiting, versions side by side, the request as curl; and the page of the API."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onetrunk.core import OneTrunk
from onetrunk.core.serving.http.auth import Access
from tests.core.serving.conftest import Running, Serve, ask, running
from tests.core.serving.http import test_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser, scripted, visit = test_page.browser, test_page.scripted, test_page.visit
expect, pytestmark = test_page.expect, test_page.pytestmark

Open = Callable[..., "Page"]


def test_a_request_that_waits_is_shown_as_pending(visit: Open, gated: Any) -> None:
    held = gated()
    page = visit(held.service)
    page.wait_for_selector("article")
    page.fill("#text", "hold")
    expect(page.locator("#took")).to_have_text("asking …")
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
    held.gate.opened.set()
    expect(page.locator("#took")).to_contain_text(" ms")
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "false")


def test_a_busy_service_is_asked_again_after_the_wait_that_it_asks_for(visit: Open, gated: Any) -> None:
    held = gated(queue_tokens=40)
    page = visit(held.service)
    page.wait_for_selector("article")
    held.hold()
    waiting = [held.begin(ask("good " * 8)) for _ in range(8)]
    assert held.until(lambda: any(each.done() for each in waiting))  # one was refused: the queue is full
    page.fill("#text", "the film is bad, and the table is bad, and the book is bad")
    expect(page.locator("#took")).to_contain_text("The service is busy; asking again in ")
    assert page.locator("#answers .error").count() == 0
    held.gate.opened.set()
    expect(page.locator("#took")).to_contain_text(" ms")
    expect(page.locator("article")).to_have_count(1)


def test_versions_of_one_adapter_stand_side_by_side(visit: Open, service: Running) -> None:
    page = visit(service, viewport={"width": 1200, "height": 800})
    page.wait_for_selector("article")
    first, second = (page.locator(".versions article").nth(n).bounding_box() for n in (0, 1))
    assert first is not None
    assert second is not None
    assert first["y"] == second["y"]
    assert first["x"] + first["width"] <= second["x"]
    assert page.inner_text(".versions > .hint") in ("These versions agree.", "These versions differ.")
    assert page.locator(".versions article").count() == 2  # `names` stands alone


def test_names_are_in_natural_order(visit: Open, new_trunk: Callable[..., OneTrunk]) -> None:
    trunk = new_trunk()
    for name in ("mood10", "mood2", "mood1"):
        trunk.registry.load("mood", name)
    with running(trunk) as service:
        page = visit(service)
        page.wait_for_selector("article")
        chosen = page.locator("#choices input").evaluate_all("all => all.map(each => each.value)")
        assert chosen == ["mood1", "mood2", "mood10"]


def test_a_text_out_of_scope_is_not_shown_as_an_error(visit: Open, scripted: Running) -> None:
    page = visit(scripted)
    test_page.ask(page, "out")
    colour = "getComputedStyle(document.querySelector('{}')).color"
    page.evaluate(
        "document.getElementById('answers').insertAdjacentHTML('beforeend', '<p class=error>x</p>')"
    )
    assert page.evaluate(colour.format(".verdict")) != page.evaluate(colour.format("#answers .error"))


def test_the_request_as_curl_gives_the_answer_of_the_page(visit: Open, service: Running) -> None:
    page = visit(service, permissions=["clipboard-read", "clipboard-write"])
    test_page.ask(page, 'it\'s "good" $HOME `x` \\n')
    page.click("#curl summary")
    page.click("#copy")
    expect(page.locator("#copied")).to_have_text("Copied.")
    line = page.evaluate("navigator.clipboard.readText()")
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    (result,) = json.loads(done.stdout)["results"]
    assert [answer["adapter"] for answer in result["answers"]] == ["mood", "mood@1", "names"]
    sent = json.loads(shlex.split(line.replace("\\\n", " "))[-1])
    assert sent["inputs"][0]["text"] == 'it\'s "good" $HOME `x` \\n'


@pytest.fixture
def guarded(serve: Serve, tmp_path: Path) -> Any:
    """A service that needs the token `a-secret-of-the-tests`."""
    file = tmp_path / "tokens.toml"
    file.write_text('[[token]]\nname = "page"\ntoken = "a-secret-of-the-tests"\nscopes = ["predict"]\n')
    file.chmod(0o600)
    with serve(Access.read(file)) as service:
        yield service


def test_the_curl_line_does_not_have_the_token(visit: Open, guarded: Running) -> None:
    page = visit(guarded)
    page.wait_for_selector("#access:not([hidden])")
    page.fill("#token", "a-secret-of-the-tests")
    page.keyboard.press("Enter")
    page.wait_for_selector("article")
    line = page.locator("#curl-line").text_content() or ""
    assert 'Authorization: Bearer $TOKEN"' in line
    assert "a-secret" not in page.content()


def test_the_description_of_the_api_is_shown(visit: Open, service: Running) -> None:
    page = visit(service)
    page.click("text=API")
    expect(page.locator("summary", has_text="/v1/predict/stream")).to_be_visible()
    assert page.locator("details").count() > 8


def open_route(page: Page, title: str) -> Any:
    """Open the page of the API and the route with this title; return the route."""
    page.click("text=API")
    route = page.locator("details", has=page.locator(f"summary code:text-is('{title}')"))
    route.locator("summary").click()
    return route


def test_a_route_can_be_tried_with_its_example(visit: Open, service: Running) -> None:
    page = visit(service)
    route = open_route(page, "POST /v1/predict")
    route.locator("textarea").fill(json.dumps({"inputs": [ask("good", "mood")]}))
    route.locator("button").click()
    expect(route.locator("form")).to_contain_text("200 OK")
    assert '"version": "mood@2"' in route.locator("form pre").inner_text()


def test_the_example_of_a_route_is_in_its_form_and_a_refusal_is_shown(visit: Open, service: Running) -> None:
    page = visit(service)
    route = open_route(page, "POST /v1/predict")
    assert json.loads(route.locator("textarea").input_value())["inputs"][0]["adapters"] == [
        "ner",
        "sentiment@prod",
    ]
    route.locator("textarea").fill("{")
    route.locator("button").click()
    expect(route.locator("form")).to_contain_text("400 Bad Request")


def test_a_parameter_of_a_path_is_a_field(visit: Open, service: Running) -> None:
    page = visit(service)
    route = open_route(page, "GET /v1/adapters/{name}")
    route.locator("input").fill("mood@1")
    route.locator("button").click()
    expect(route.locator("form pre")).to_contain_text('"version": "mood@1"')


def test_the_token_of_the_api_page_is_sent(visit: Open, guarded: Running) -> None:
    page = visit(guarded)
    route = open_route(page, "GET /v1/adapters")
    page.fill("#token", "a-secret-of-the-tests")
    route.locator("button").click()
    expect(route.locator("form")).to_contain_text("200 OK")


def test_axe_finds_nothing_serious_on_the_page_of_the_api(visit: Open, service: Running) -> None:
    from axe_core_python.sync_playwright import Axe

    page = visit(service)
    open_route(page, "POST /v1/predict").locator("button").click()
    page.wait_for_selector("form pre")
    found = Axe().run(page)
    assert [each["id"] for each in found["violations"] if each["impact"] in ("serious", "critical")] == []
