"""The playground in headless Chromium, which can reach no host but the service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from onetrunk.core import OneTrunk
from onetrunk.core.plugin_system.host import PluginHost
from onetrunk.core.serving.http.auth import Access
from onetrunk.core.tasks.hookspecs import hookimpl
from onetrunk.plugins import sentiment
from tests.core.serving.conftest import Running, Serve, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")

HOSTILE = '<img src="/x" onerror="document.title=1">'
ANSWERS: dict[str, dict[str, Any]] = {
    "out": {"label": "oos", "score": 0.3, "scores": {"pay": 0.3, "cancel": 0.2}, "in_scope": False},
    "many": {"label": "l0", "score": 0.5, "scores": {f"l{i}": 0.5 / (i + 1) for i in range(9)}},
    "hostile": {"label": HOSTILE, "score": 0.9, "scores": {HOSTILE: 0.9}},
    "🙂 Ada in 東京": {
        "entities": [
            {"start": 2, "end": 5, "label": "PER", "text": "Ada", "score": 0.9},
            {"start": 9, "end": 11, "label": HOSTILE, "text": "東京", "score": 0.9},
            {"start": 2, "end": 8, "label": "X", "text": "Ada in", "score": 0.1},
        ]
    },
    "other": {"topics": ["film"]},
}
"""What the plugin of these tests says of a text; of any other it says what the task says."""


class Scripted:
    @hookimpl
    def tasks(self) -> list[Any]:
        spec = sentiment.tasks()[0]

        def decode(example: Any, *rest: Any) -> Any:
            return ANSWERS.get(example.text) or spec.decode(example, *rest)

        return [replace(spec, decode=decode)]


@pytest.fixture(scope="module")
def scripted(new_trunk: Callable[..., OneTrunk]) -> Iterator[Running]:
    """A service of `mood`, which answers as `ANSWERS` has it."""
    with running(new_trunk("mood", host=PluginHost.of(Scripted()))) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


Open = Callable[..., "Page"]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Return (service, **context) → its page; whatever it complains of, or asks elsewhere, fails the test."""
    faults: list[str] = []
    contexts = []

    def make(service: Running, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)

        def only_here(route: Any) -> None:
            if route.request.url.startswith(service.url):
                route.continue_()
            else:
                faults.append(f"asked {route.request.url}")
                route.abort()

        context.route("**/*", only_here)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: faults.append(str(error)))

        def complain(message: Any) -> None:
            # A browser reports each refusal, and each request that fails, by itself; the tests make the service's.
            expected = message.text.startswith("Failed to load resource") and message.location[
                "url"
            ].startswith(f"{service.url}/v1/")
            if message.type == "error" and not expected:
                faults.append(f"{message.text} {message.location['url']}")

        page.on("console", complain)
        page.goto(service.url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def ask(page: Page, text: str) -> None:
    """Type a text over what is there, and wait for its answers."""
    page.wait_for_selector("article")
    page.evaluate("document.getElementById('answers').replaceChildren()")
    page.fill("#text", text)
    page.wait_for_selector("article")


def test_the_first_adapters_answer_the_sample_at_once(visit: Open, service: Running) -> None:
    page = visit(service)
    page.wait_for_selector("article")
    names = page.locator("article h3").all_inner_texts()
    assert [name.split("\n")[0] for name in names] == ["mood", "mood@1", "names"]
    assert page.inner_text("#took").endswith(" ms")
    assert page.inner_text("#state") == "ready"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text", ["out", "🙂 Ada in 東京"])
def test_axe_finds_nothing_serious(visit: Open, scripted: Running, scheme: str, text: str) -> None:
    from axe_core_python.sync_playwright import Axe

    page = visit(scripted, color_scheme=scheme)
    ask(page, text)
    page.wait_for_timeout(400)  # bars move into place
    found = Axe().run(page)
    assert found["passes"]
    assert [each["id"] for each in found["violations"] if each["impact"] in ("serious", "critical")] == []


def test_a_phone_needs_no_sideways_scrolling(visit: Open, scripted: Running) -> None:
    page = visit(scripted, viewport={"width": 360, "height": 740})
    for text in ("hostile", "x" * 500):
        ask(page, text)
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_entities_stand_where_they_are_whatever_a_character_is(visit: Open, scripted: Running) -> None:
    page = visit(scripted)
    ask(page, "🙂 Ada in 東京")
    marks = page.locator("mark")
    assert marks.all_inner_texts() == ["Ada inX10.0 %", f"東京{HOSTILE}90.0 %"]
    assert page.inner_text(".reading").startswith("🙂 ")
    assert page.inner_text("article .hint") == "Within others: Ada (PER)"


def test_a_text_out_of_scope_is_said_to_be_so_with_the_nearest_intents(
    visit: Open, scripted: Running
) -> None:
    page = visit(scripted)
    ask(page, "out")
    assert page.inner_text(".verdict") == "out of scope"
    assert page.locator(".scores .name").all_inner_texts() == ["pay", "cancel"]
    assert page.locator(".scores .value").all_inner_texts() == ["30.0 %", "20.0 %"]


def test_of_many_labels_the_best_are_shown_and_the_others_folded(visit: Open, scripted: Running) -> None:
    page = visit(scripted)
    ask(page, "many")
    assert page.locator("article > .scores .name").all_inner_texts() == ["l0", "l1", "l2", "l3", "l4"]
    page.click("article summary")
    assert page.locator("details .name").all_inner_texts() == ["l5", "l6", "l7", "l8"]


def test_markup_in_a_label_is_text(visit: Open, scripted: Running) -> None:
    page = visit(scripted)
    ask(page, "hostile")
    assert page.inner_text(".verdict") == HOSTILE
    assert page.locator("#answers img").count() == 0
    assert page.title() == "OneTrunk"


def test_an_answer_of_an_unknown_shape_is_shown_as_json(visit: Open, scripted: Running) -> None:
    page = visit(scripted)
    ask(page, "other")
    assert page.inner_text("article pre").split() == ["{", '"topics":', "[", '"film"', "]", "}"]


def test_it_can_be_used_by_keyboard_alone(visit: Open, service: Running) -> None:
    page = visit(service)
    page.wait_for_selector("article")
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert seen[1:7] == ["text", "filter", "mood", "mood@1", "names", "go"]
    page.focus("#choices input[value='mood@1']")
    page.keyboard.press("Space")
    expect(page.locator("article")).to_have_count(2)
    page.focus("#text")
    page.keyboard.press("Control+A")
    page.keyboard.type("the film is bad")
    with page.expect_response("**/v1/predict") as answered:
        page.keyboard.press("Control+Enter")
    sent = json.loads(answered.value.request.post_data or "")
    assert sent["inputs"][0]["text"] == "the film is bad"


def test_adapters_are_found_by_name_and_the_chosen_stay_in_sight(visit: Open, service: Running) -> None:
    page = visit(service)
    page.wait_for_selector("article")
    page.uncheck("#choices input[value='names']")
    page.fill("#filter", "nothing like it")
    assert page.locator("#choices input").evaluate_all("all => all.map(each => each.value)") == [
        "mood",
        "mood@1",
    ]
    page.fill("#filter", "ner")
    assert page.locator("#choices input").count() == 3


def test_a_refusal_stands_where_the_answer_would(visit: Open, serve: Serve) -> None:
    with serve(characters=60) as service:
        page = visit(service)
        page.wait_for_selector("article")
        page.fill("#text", "x" * 61)
        expect(page.locator("#answers .error")).to_contain_text("61 characters, at most 60")


def test_the_panel_follows_a_swap(visit: Open, serve: Serve) -> None:
    with serve() as service:
        page = visit(service)
        expect(page.locator("#served th").first).to_have_text("moodmood@2")
        service.client.put("/v1/adapters/mood", json={"ref": "mood@1"}).raise_for_status()
        expect(page.locator("#served th").first).to_have_text("moodmood@1")


def test_a_token_is_asked_for_and_kept_in_the_page_alone(visit: Open, serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text('[[token]]\nname = "page"\ntoken = "a-secret-of-the-tests"\nscopes = ["predict"]\n')
    file.chmod(0o600)
    with serve(Access.read(file)) as service:
        page = visit(service)
        page.wait_for_selector("#access:not([hidden])")
        page.fill("#token", "no such token, but long enough")
        page.keyboard.press("Enter")
        expect(page.locator("#access-error")).to_contain_text("does not have this token")
        page.fill("#token", "a-secret-of-the-tests")
        page.keyboard.press("Enter")
        page.wait_for_selector("article")
        assert not page.is_visible("#access")
        kept = "JSON.stringify([localStorage.length, sessionStorage.length, document.cookie, location.href])"
        assert page.evaluate(kept) == f'[0,0,"","{service.url}/"]'


def test_a_service_that_is_gone_is_told(visit: Open, serve: Serve) -> None:
    with serve() as service:
        page = visit(service)
        page.wait_for_selector("article")
        page.context.set_offline(True)
        expect(page.locator("#state")).to_contain_text("does not answer")
        page.context.set_offline(False)
        expect(page.locator("#state")).to_have_text("ready", timeout=20_000)
