"""The page in a real browser: somebody is chosen, a list appears, and what is said to it changes it at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("playwright", reason="needs Playwright")

from playwright.sync_api import sync_playwright

from serving.questionnaire import Questionnaire

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = '<img src=x onerror="document.title=1">'


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """A page at phone width whose errors and requests are kept."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
        context.set_default_timeout(20_000)
        opened = context.new_page()
        opened.complaints, opened.asked = [], []
        opened.on("console", lambda said: opened.complaints.append(said.text))
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(address)
        began(opened)
        yield opened
        browser.close()


def began(page: Any) -> None:
    """Waits until the page has heard what the service offers."""
    page.locator("#about:not(:empty)").wait_for()


def titles(page: Any) -> list[str]:
    return page.locator("#found h3").all_inner_texts()


def scores(page: Any) -> list[float]:
    return [float(text.split()[1].replace("−", "-")) for text in page.locator("#found .score").all_inner_texts()]


def changed(page: Any, before: list[str]) -> list[str]:
    """The list, once it is another one."""
    for _ in range(400):
        if titles(page) not in (before, []) and not page.locator("#found.waits").count():
            return titles(page)
        page.wait_for_timeout(50)
    raise AssertionError("the list stayed as it was")


def test_somebody_is_chosen_and_answers_with_the_keyboard(page: Any, address: str, store: Any) -> None:
    assert page.locator("#about").inner_text() == "40 items, 30 people in the log"
    assert not page.locator("#drop").is_visible()  # this model reads neither pictures nor sounds
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    first = changed(page, [])
    assert len(first) == 12
    assert page.locator("#status").inner_text() == "12 items for user 7, known by 10 items."
    assert page.locator("#history-note").inner_text() == "10 items of 7, the newest first."
    assert page.locator("#history li").count() == 10
    assert scores(page) == sorted(scores(page), reverse=True)
    page.locator("#found img").first.wait_for()
    assert page.locator("#found img").first.evaluate("image => image.naturalWidth") == 8

    page.locator("#found > li").nth(2).get_by_role("button", name="Not this").press("Enter")
    second = changed(page, first)
    assert first[2] not in second
    assert page.evaluate("document.activeElement.textContent") == second[2]
    assert page.locator("#history li").first.inner_text().split("\n")[:2] == [first[2], "not this"]
    page.locator("#found > li").first.get_by_role("button", name="5 of 5 stars").press("Enter")
    third = changed(page, second)
    assert second[0] not in third
    assert "5 ★" in page.locator("#history li").first.inner_text()
    assert page.locator("#history-note").inner_text() == "11 items of 7, and 1 refused, the newest first."
    assert page.locator("#status").inner_text() == "12 items for user 7, known by 11 items."
    assert [(one.kind, one.value) for one in store.history(7)] == [("not-this", None), ("rating", 5)]

    page.locator("#diversity").press("End")
    fourth = changed(page, third)
    assert page.locator("output[for=diversity]").inner_text() == "1"
    assert page.locator("#status").inner_text().endswith(" Not sorted by score alone, but re-ranked by mmr.")
    assert scores(page) != sorted(scores(page), reverse=True)
    page.locator("#found summary").first.press("Enter")
    page.locator("#found details[open] dl dt").first.wait_for()
    assert fourth[0] in page.locator("#found details[open] p").first.inner_text()

    sound = page.locator("#found > li").first.get_by_role("button", name="Play")
    sound.click()
    page.wait_for_timeout(300)
    assert page.evaluate("sound.currentTime > 0 || sound.ended || !sound.paused")

    page.locator("#text").fill("a quiet piano")
    page.locator("#text").press("Enter")
    changed(page, fourth)
    assert '"a quiet piano"' in page.locator("#status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    nameless = "button => !(button.textContent.trim() || button.getAttribute('aria-label'))"
    assert page.evaluate(f"[...document.querySelectorAll('button')].filter({nameless}).length") == 0
    inputs = "[...document.querySelectorAll('input')].filter(one => !one.labels.length).length"
    assert page.evaluate(inputs) == 0
    assert [
        one for one in page.complaints if "404" not in one
    ] == []  # some pictures here are files that may not be had
    assert {url.split("/", 3)[2] for url in page.asked if not url.startswith(("blob:", "data:"))} == {address[7:]}


def test_somebody_new_begins_with_an_item(page: Any, store: Any) -> None:
    page.get_by_role("button", name="I am somebody new").click()
    page.locator("#title").fill("piano")
    assert page.locator("#titles").get_attribute("aria-live") == "polite"
    page.locator("#titles button").first.click()
    assert len(changed(page, [])) == 12
    assert page.locator("#history li").count() == 1
    assert store.count() == 1
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_a_scale_of_half_stars_is_answered_in_whole_ones_up_to_the_last(page: Any) -> None:
    def half(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"rating_range": [0.5, 5]})

    page.route("**/v1/about", half)
    page.reload()
    page.locator("#person").fill("7")
    page.locator("#person").press("Enter")
    (title, *_) = changed(page, [])
    labels = (
        page.locator("#found > li")
        .first.locator(".stars button")
        .evaluate_all("buttons => buttons.map(button => button.getAttribute('aria-label'))")
    )
    assert labels == [f"{value} of 5 stars: {title}" for value in range(1, 6)]


def test_what_a_title_says_is_never_run(page: Any, address: str) -> None:
    row = {"item_id": "evil", "title": EVIL, "topic": "music"}
    put = "fetch('/v1/items', {method: 'PUT', headers: {'Content-Type': 'application/json'}, body: '{}'})"
    assert page.evaluate(f"{put}.then(answer => answer.status)") == 422
    answer = page.request.put(f"{address}/v1/items", data={"items": [row]})
    assert answer.status == 200
    page.locator("#title").fill("onerror")
    page.locator("#titles button").first.wait_for()
    assert page.locator("#titles button").first.inner_text() == EVIL
    assert page.title() == "twotower"


def test_somebody_new_is_asked_although_they_were_quicker_than_the_service(page: Any) -> None:
    """Whether there are people to be like is known once /v1/about has answered, which may be later than all else."""
    late = "(path, options) => new Promise((done) => setTimeout(done, `${path}`.startsWith('/v1/about') ? 1500 : 0))"
    page.add_init_script(
        f"const real = fetch; window.fetch = (...asked) => ({late})(...asked).then(() => real(...asked))"
    )
    page.reload()
    page.get_by_role("button", name="I am somebody new").press("Enter")
    page.locator("#asked-title").wait_for()
    assert len(changed(page, [])) == 12


def test_somebody_new_answers_questions_and_the_list_follows(page: Any, shop: Any) -> None:
    asks = Questionnaire(shop)
    shown = dict(zip(asks.catalog.ids.to_list(), asks.catalog.titles, strict=True))
    assert not page.locator("#new").is_visible()
    page.get_by_role("button", name="I am somebody new").press("Enter")
    question = page.locator("#asked-title")
    question.wait_for()
    assert question.inner_text() == shown[asks.next()]
    assert page.locator("#asked img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 8
    first = changed(page, [])
    assert first == [one.title for one in asks.recommend(k=12)]
    assert page.evaluate("document.activeElement.id") == "new-title"

    page.keyboard.press("Tab")  # the sound
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    second = changed(page, first)
    answers: dict[Any, bool | None] = {asks.next(): True}
    assert second == [one.title for one in asks.recommend(answers, k=12)]
    assert page.locator("#status").inner_text() == "12 items for someone new with 1 answer."
    assert question.inner_text() == shown[asks.next(answers)]
    assert page.evaluate("document.activeElement.value") == "like"  # the next answer is where this one was
    page.locator("#found summary").first.click()
    page.locator("#found details[open] dl dt").first.wait_for()
    assert page.locator("#found details[open] dl dt").all_inner_texts() == [shown[asks.next()]]

    answers[asks.next(answers)] = False
    page.get_by_role("button", name="I don’t like it").click()
    third = changed(page, second)
    assert third == [one.title for one in asks.recommend(answers, k=12)]
    answers[asks.next(answers)] = None
    page.get_by_role("button", name="I don’t know it").click()
    page.get_by_text("12 items for someone new with 3 answers.").wait_for()
    assert page.locator("#new-note").inner_text() == "3 answers."
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    fourth = titles(page)
    page.locator("#found > li").first.get_by_role("button", name="Not this").click()
    assert changed(page, fourth)[:11] == fourth[1:]  # what is said to the list counts beside the answers
    page.get_by_text("12 items for someone new with 3 answers, user visitor-").wait_for()
    page.get_by_role("button", name="Start over").click()
    page.get_by_text("12 items for someone new with 0 answers.").wait_for()
    assert titles(page) == first
    assert page.locator("#history li").count() == 0
    page.locator("#person").fill("7")
    page.locator("#person").press("Enter")
    assert changed(page, first) == [one.title for one in shop.recommend(user=7, k=12)]
    assert not page.locator("#new").is_visible()
    assert [one for one in page.complaints if "404" not in one and "503" not in one] == []
