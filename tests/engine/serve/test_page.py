"""The page at `/`: as a person uses it in a browser, and as it is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import Browser, chromium, eventually
from prometheus_client import Metric
from servers import Running, serving, wait_until

import latebolt
from latebolt.serve.metrics_summary import quantile_ms, summary

ROOT = Path(__file__).parents[3]
PAGE = Path(latebolt.__file__).parent / "serve" / "page"
HOSTILE = "<img src=x onerror=alert(1)> Berlin <b title=x></b>"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with chromium() as each:
        yield each


@pytest.fixture
def page(tab: Browser, running: Running) -> Iterator[Browser]:
    """The page of the tests' server; it must leave nothing in the console and ask nobody else."""
    tab.open(running.url)
    yield tab
    assert tab.complaints() == []
    assert {url for url in tab.requested() if not url.startswith(running.url)} == set()


def test_the_first_click_gives_hits_with_shaded_words(page: Browser):
    page.search()
    assert (
        "population of Berlin" in page.text("#hits li:first-child .text") or page.strengths()["Berlin"] > 0.9
    )
    assert len(page.all("#hits > li")) == len(page.one("#passages").get_attribute("value").split("\n\n"))
    assert page.texts("#words button") == ["What", "is", "the", "population", "of", "Berlin"]
    scores = [float(score) for score in page.texts(".score")]
    assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] > 0
    assert page.texts(".rank") == [f"Rank {i + 1}" for i in range(len(scores))]
    assert page.text("#summary").startswith("8 hits of 8 candidates in ")
    shades = page.script(
        """return Array.from(document.querySelectorAll("#hits li:first-child mark"), (mark) =>
            getComputedStyle(mark).backgroundColor)"""
    )
    assert len(set(shades)) > 1  # words that match better are shaded more
    assert page.driver.get_log("browser") == []  # nothing was missing, the icon included


def test_a_query_word_narrows_the_shading_and_a_word_of_a_text_names_its_takers(page: Browser):
    page.write("#passages", "Berlin has 3.85 million inhabitants.\n\nA volcano.")
    page.search()
    assert {"Berlin", "inhabitants"} <= set(page.strengths())
    *_, population, _, berlin = page.all("#words button")
    page.hover(population)
    assert set(page.strengths()) == {"inhabitants"}
    assert page.text("#hits li:first-child .own").startswith("inhabitants 0.")
    page.hover(page.one("#summary"))
    assert {"Berlin", "inhabitants"} <= set(page.strengths())
    [word] = [mark for mark in page.all("#hits li:first-child mark") if mark.text == "inhabitants"]
    page.hover(word)
    assert page.text("#told").startswith("“inhabitants” was matched by “population” 0.")
    assert "lit" in population.get_attribute("class") and "dim" in berlin.get_attribute("class")
    page.hover(page.one("#summary"))
    berlin.click()
    page.hover(page.one("#summary"))
    assert set(page.strengths()) == {"Berlin"}  # a click keeps it
    page.press("\ue00c")  # Escape
    assert {"Berlin", "inhabitants"} <= set(page.strengths())


def test_words_are_found_where_characters_take_two_units(page: Browser):
    page.write("#query", "\U0001f5fa capital")
    page.write("#passages", "\U0001f600\U0001f600 Rome is the capital of Italy.")
    page.search()
    assert set(page.strengths()) == {"capital"}


def test_hostile_text_stays_text(page: Browser, client: httpx.Client, index: str):
    hostile = {"id": HOSTILE, "text": HOSTILE, "metadata": {HOSTILE: HOSTILE}}
    assert client.post(f"{index}/documents", json={"documents": [hostile]}).status_code == 200
    page.write("#passages", HOSTILE)
    page.write("#query", "Berlin <img>")
    page.search()
    for source in ("", "cities"):
        page.choose(source)
        wait_until(lambda: len(page.all("#hits > li")) == (4 if source else 1))  # noqa: B023
        for details in page.all("#hits summary"):
            details.click()
        wait_until(lambda: bool(page.all("#hits details[open] tbody td")))
        page.hover(page.one("#hits mark"))
        assert HOSTILE in page.texts("#hits .text")
        assert page.all("#results img, #results script, #results b") == []
    assert HOSTILE in page.texts(".id") and HOSTILE in page.texts(".metadata dt")
    assert HOSTILE in page.texts(".metadata dd")


def test_dark_and_light_can_be_read(page: Browser):
    page.write("#k", "0")  # an error to read
    page.one("#go").click()
    page.write("#k", "8")
    page.search()
    page.script(
        """for (const mark of document.querySelectorAll("mark")) mark.style.setProperty("--strength", "1")"""
    )
    page.script("""document.querySelector("#where-error").textContent = "wrong";
        document.querySelector("#words button").classList.add("lit");
        document.querySelectorAll("#words button")[1].classList.add("dim");
        for (const each of document.querySelectorAll("[hidden]")) each.hidden = false;""")
    grounds = set()
    for scheme in ("light", "dark"):
        page.look_like(scheme)
        found = page.script(CONTRASTS)
        assert len(found) > 60
        assert [each for each in found if each["contrast"] < 4.5] == [], scheme
        grounds.add(page.script("return getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


# The contrast of every piece of text with what lies behind it, by the formula of WCAG 2.2.
CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const ground = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    layers.unshift(getComputedStyle(each).backgroundColor);
  }
  layers.forEach((layer) => { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); });
  return canvas.getImageData(0, 0, 1, 1).data;
};
const letters = (element) => {
  canvas.fillStyle = getComputedStyle(element).color;
  canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const luminance = ([r, g, b]) => [r, g, b]
  .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
return Array.from(document.body.querySelectorAll("*"))
  .filter((each) => Array.from(each.childNodes).some((node) => node.nodeType === 3 && node.data.trim()))
  .filter((each) => each.getClientRects().length)
  .map((each) => {
    const [a, b] = [luminance(ground(each)), luminance(letters(each))];
    return {what: each.outerHTML.slice(0, 80), contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)};
  });
"""


def test_the_keyboard_is_enough(page: Browser):
    tab, enter = "\ue004", "\ue007"
    page.press(tab)
    assert page.focus_is_in(".skip")
    seen = []
    for _ in range(4):
        seen.append(page.script("return document.activeElement.id || document.activeElement.textContent"))
        page.press(tab)
    assert seen == ["Skip to the results", "OpenAPI", "Metrics", "query"]
    page.press(enter)
    wait_until(lambda: bool(page.all("#hits > li")))
    for _ in range(8):
        if page.focus_is_in("#words button"):
            break
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert page.script(outline) == "solid"
        page.press(tab)
    assert len(page.strengths()) <= 1 == len(page.all("#hits li:first-child mark.taken"))
    page.press(tab, tab, tab)
    assert page.script("return document.activeElement.textContent") == "population"
    assert set(page.strengths()) == {"residents"}
    assert page.text("#told").startswith("“population” matched a word in ")
    page.press(enter)
    assert page.script("return document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press(tab, tab, tab)
    assert page.focus_is_in("summary")
    page.press(enter)
    eventually(lambda: len(page.all("#hits li:first-child details[open] tbody tr")), 6)


def test_every_field_has_a_label_and_answers_are_announced(page: Browser):
    names = page.script(
        """return Array.from(document.querySelectorAll("input, select, textarea"), (field) =>
            Array.from(field.labels, (label) => label.textContent).join())"""
    )
    assert len(names) == 7 and all(names)
    assert page.one("#summary").get_attribute("role") == "status"
    assert page.one("#told").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1600, 900)])
def test_nothing_is_wider_than_the_window(page: Browser, width: int, height: int):
    page.size(width, height)
    page.write("#passages", "a" * 400 + " Berlin")
    page.search()
    assert page.script("return document.documentElement.scrollWidth") <= width


def test_stale_answers_are_dropped(page: Browser):
    # The first answer is held back until the second is there, and cannot be aborted.
    page.script("""
        const plain = window.fetch;
        let release, first = true;
        const held = new Promise((resolve) => (release = resolve));
        window.answered = 0;
        window.fetch = async (path, options) => {
          if (path !== "v1/rerank") return plain(path, options);
          const waits = first;
          first = false;
          const response = await plain(path, {...options, signal: undefined});
          if (waits) await held;
          setTimeout(() => { window.answered++; release(); }, 50);
          return response;
        };""")
    page.write("#query", "first words")
    page.one("#go").click()
    page.write("#query", "second")
    page.one("#go").click()
    eventually(lambda: page.script("return window.answered"), 2)
    assert page.texts("#words button") == ["second"]


def test_typing_asks_by_itself(page: Browser):
    page.one("#query").click()
    page.press(" 1900")
    wait_until(lambda: "1900" in page.texts("#words button"))


def test_many_hits_come_in_parts(page: Browser):
    page.write("#passages", "\n\n".join(f"City number {i} has {i} inhabitants." for i in range(45)))
    page.write("#k", "43")
    page.search()
    counts = [len(page.all("#hits > li"))]
    for expected in (40, 43):
        # By key: figures of the server come in meanwhile, and move what a pointer is on its way to.
        page.script("arguments[0].focus()", page.one("#more"))
        page.press("\ue007")  # Enter
        eventually(lambda: len(page.all("#hits > li")), expected)
        counts.append(expected)
        assert page.focus_is_in(f"#hits > li:nth-child({counts[-2] + 1})")
    assert counts == [20, 40, 43]
    assert not page.one("#more").is_displayed()
    assert len(set(page.texts(".id"))) == 43


def test_a_long_text_is_shown_where_it_matched(page: Browser):
    page.write("#query", "volcano")
    text = "Nothing of note here. " * 60 + "A volcano erupts. " + "Nothing of note again. " * 20
    page.write("#passages", text)
    page.search()
    assert "volcano" in page.strengths()
    assert len(page.text("#hits .text")) < 700
    page.one("#hits button").click()
    assert page.text("#hits .text") == text.strip()
    assert "volcano" in page.strengths()


def test_an_index_is_searched_with_its_settings(page: Browser, index: str):
    page.write("#query", "german capital")
    page.choose("cities")
    wait_until(lambda: len(page.all("#hits > li")) == 3)
    assert page.text("#hits li:first-child .id") == "berlin"
    assert page.texts("#hits li:first-child .metadata dd") == ["1990"]
    assert page.text("#summary").startswith("3 hits of 3 candidates in ")
    assert "score exactly" in page.texts("#stages tbody th")
    assert not page.one("#passages").is_displayed()
    page.write("#where", "since < 1900")
    page.one("#go").click()
    wait_until(lambda: len(page.all("#hits > li")) == 2)
    page.script("document.querySelector('#mode').value = 'bm25'")
    page.write("#where", "since <")
    page.one("#go").click()
    wait_until(lambda: page.text("#where-error").startswith("Expected a value"))
    assert page.one("#where").get_attribute("aria-invalid") == "true"
    assert page.all("#hits > li") == [] and page.text("#summary") == ""
    page.write("#where", "")
    page.one("#go").click()
    wait_until(lambda: "score words" in page.texts("#stages tbody th"))
    assert page.text("#where-error") == ""


def test_errors_are_told_where_they_happened(page: Browser):
    page.write("#query", "  ")
    page.write("#k", "0")
    page.write("#passages", "")
    page.one("#go").click()
    assert page.text("#query-error") == "Type at least one word."
    assert page.text("#k-error") == "A whole number from 1 to 1000."
    assert page.text("#passages-error") == "Give at least one passage."
    page.write("#query", "a")
    page.write("#k", "3")
    page.write("#passages", "\n\n".join(["b"] * 2049))
    page.one("#go").click()
    wait_until(lambda: page.text("#passages-error").startswith("Has 2049 texts"))
    page.script("window.fetch = async () => { throw new TypeError('gone'); }")
    page.write("#passages", "b")
    page.one("#go").click()
    eventually(lambda: page.text("#problem"), "The server does not answer. Is it running?")


def test_figures_are_those_of_the_server(page: Browser, client: httpx.Client, index: str):
    def row() -> list[str]:
        return page.texts("#requests tbody tr:nth-child(2) td")

    before = int(row()[0].replace(",", ""))
    page.search()
    wait_until(lambda: int(row()[0].replace(",", "")) == before + 1, 10)
    told = client.get("/metrics.json").json()["requests"]["rerank"]
    assert told["requests"] == before + 1
    assert 0 < float(row()[1]) <= float(row()[2])
    facts = dict(zip(page.texts("#facts dt"), page.texts("#facts dd"), strict=True))
    assert (facts["Model"], facts["Dimensions"], facts["Queue"]) == ("starter", "128, 96, 64", "empty")
    wait_until(lambda: "cities" in page.texts("#indexes strong"), 10)


def test_an_index_that_cannot_be_used_is_told_and_not_offered(page: Browser, running: Running, index: str):
    folder = running.server.service.settings.data_folder / "indexes" / "strange"
    folder.mkdir()
    try:
        wait_until(lambda: "strange" in page.texts("#indexes strong"))
        assert "cannot be used: the folder of that name" in page.text("#indexes")
        offered = page.texts("#source option")
        assert any("cities" in each for each in offered)
        assert not any("strange" in each for each in offered)
    finally:
        folder.rmdir()


def test_a_key_is_asked_for_and_kept_for_the_tab_only(tab: Browser, tmp_path: Path):
    with serving(tmp_path, keys="let-me-in-please read") as running:
        tab.open(running.url)
        wait_until(lambda: tab.one("#key").is_displayed())
        assert tab.text("#key-error") == "The server wants a key."
        tab.one("#go").click()
        eventually(lambda: tab.text("#problem"), "The server wants a key.")
        for key, told in (("wrong", "The server does not know this key."), ("let-me-in-please", "")):
            tab.one("#key").clear()
            tab.one("#key").send_keys(key, "\ue007")
            eventually(lambda: tab.text("#key-error"), told)
        wait_until(lambda: bool(tab.all("#hits > li")))
        assert not tab.one("#key").is_displayed()
        kept = tab.script("return [Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert kept == [["let-me-in-please"], 0, ""]
        tab.one("[href=metrics]").click()  # a link sends no key, so the page fetches it
        wait_until(lambda: "latebolt_requests" in tab.text("body"))
        assert tab.script("return location.protocol") == "blob:"


def chosen(page: Browser) -> str:
    """The index that is searched; "" for own passages."""
    return page.script("return document.querySelector('#source').value")


def change(page: Browser, selector: str, value: str) -> None:
    """Choose something in a list."""
    code = "const [field, value] = arguments; field.value = value; field.dispatchEvent(new Event('change'))"
    page.script(code, page.one(selector), value)


def test_it_opens_on_the_first_index(index: str, page: Browser):
    eventually(lambda: chosen(page), "cities")
    assert not page.one("#passages").is_displayed()
    assert page.one("#query").get_attribute("value") == ""
    assert page.text("#summary") == "Ask index cities something."
    change(page, "#mode", "hybrid")
    assert page.text("#query-error") == ""  # a query that is still to be typed is no fault
    page.write("#query", "german capital")
    wait_until(lambda: page.texts("#hits .id")[:1] == ["berlin"])


def test_the_address_says_what_is_asked_and_the_way_back_goes_back(
    index: str, page: Browser, running: Running
):
    eventually(lambda: chosen(page), "cities")

    def shown() -> tuple[str, str, list[str]]:
        fields = (page.one(name).get_attribute("value") for name in ("#query", "#mode"))
        return (*fields, page.texts("#hits .id"))  # type: ignore[return-value]

    page.write("#query", "german capital & more")
    page.search()
    first, late = page.script("return location.hash"), shown()
    assert first == "#index=cities&q=german+capital+%26+more"
    page.write("#where", "since > 1000")
    change(page, "#mode", "bm25")
    wait_until(lambda: page.texts("#hits .id") == ["berlin", "rome"])
    assert page.script("return location.hash").endswith("&mode=bm25&where=since+%3E+1000")
    page.one("#query").clear()
    page.one("#query").send_keys("Rome")
    wait_until(lambda: page.texts("#hits .id") == ["rome"])
    page.one("#query").send_keys(" Italy")
    wait_until(lambda: page.script("return location.hash").count("q=Rome+Italy") == 1)
    page.driver.back()  # what was typed is one step
    wait_until(lambda: shown() == ("german capital & more", "bm25", ["berlin", "rome"]))
    page.driver.back()
    wait_until(lambda: shown() == late)
    assert page.one("#where").get_attribute("value") == ""
    page.driver.forward()
    wait_until(lambda: page.texts("#hits .id") == ["berlin", "rome"])
    page.driver.get(f"{running.url}/{first}")  # somebody else opens it
    page.driver.refresh()
    wait_until(lambda: shown() == late)
    page.driver.get(f"{running.url}/#index=gone&q=a&mode=odd")
    page.driver.refresh()
    eventually(lambda: page.text("#problem"), "There is no index of that name.")
    assert shown()[1] == "late"


def test_the_way_to_the_results_leaves_the_address_alone(page: Browser):
    page.search()
    before = page.script("return location.hash")
    page.script("document.querySelector('.skip').click()")
    assert page.focus_is_in("#results") and page.script("return location.hash") == before


def test_texts_run_in_their_own_direction(page: Browser):
    page.write("#query", "ברלין Berlin")
    page.write("#passages", "ברלין היא בירת גרמניה.\n\nBerlin is the capital of Germany.")
    page.search()
    directions = page.script(
        "return Array.from(document.querySelectorAll('#hits .text'), (each) =>"
        " [each.textContent.startsWith('B'), getComputedStyle(each).direction])"
    )
    assert sorted(directions) == [[False, "rtl"], [True, "ltr"]]
    fields = "return Array.from(document.querySelectorAll('#query, #passages'), (each) => each.dir)"
    assert page.script(fields) == ["auto", "auto"]
    assert page.script("return getComputedStyle(document.querySelector('#query')).direction") == "rtl"


def test_names_of_figures_stay_whole_beside_long_values(page: Browser, client: httpx.Client):
    client.post("/v1/rerank", json={})
    client.get("/v1/indexes/none")
    client.post("/v1/rerank", content=b"{}", headers={"Content-Type": "text/plain"})
    client.put("/v1/indexes", json={})
    wait_until(lambda: page.texts("#facts dd")[-1].count(",") >= 2, 15)
    for width in (1280, 360):
        page.size(width, 900)
        heights = page.script(
            "return Array.from(document.querySelectorAll('#facts dt'), (e) => e.offsetHeight)"
        )
        assert len(heights) == 8 and len(set(heights)) == 1
        assert page.script("return document.documentElement.scrollWidth") <= width


def test_a_weak_match_is_called_so_and_a_good_one_is_not(page: Browser):
    page.search()
    assert float(page.text("#hits li:first-child .confidence")) > 0.5
    assert not page.all("#hits li:first-child .weak") and "weak" not in page.text("#summary")
    values = [float(each) for each in page.texts(".confidence")]
    assert values == sorted(values, reverse=True) and len(values) == 8
    page.write("#query", "zxqv blorp wibble snarf")
    page.search()
    assert page.text("#hits li:first-child .weak") == "weak match"
    assert page.text("#summary").endswith("The best match is weak: the answer may not be here.")


def test_bm25_shades_its_own_words(page: Browser, client: httpx.Client, index: str):
    text = "The Tour de France ends in Paris. PARIS, the city of light, is in France."
    more = [{"id": "tour", "text": text}, {"id": "moon", "text": "The moon is in the sky."}]
    assert client.post(f"{index}/documents", json={"documents": more}).status_code == 200
    page.choose("cities")
    change(page, "#mode", "bm25")
    page.write("#query", "is Páris the capital")
    page.write("#where", "not exists(since)")
    page.one("#go").click()
    wait_until(lambda: page.texts("#hits .id") == ["tour", "moon"])
    strengths = page.strengths()
    assert strengths["Paris"] == strengths["PARIS"] == 1  # every place, in any spelling
    assert "France" not in strengths and "city" not in strengths  # near in meaning, but not the word
    assert strengths.get("the", 0) < 0.2 and strengths.get("is", 0) < 0.2


def test_function_words_are_not_shaded(page: Browser, client: httpx.Client, index: str):
    names = ("mill", "barn", "bridge", "chapel", "school", "market")
    texts = [f"The {names[i % 6]} of village {i} was rebuilt in the year {1500 + i}." for i in range(60)]
    texts.append("The tower was built between 1173 and 1372 in the city of Pisa.")
    documents = [{"id": str(i), "text": text} for i, text in enumerate(texts)]
    assert client.post(f"{index}/documents", json={"documents": documents}).status_code == 200
    page.choose("cities")
    page.write("#query", "When was the tower of Pisa built?")
    page.search()
    wait_until(lambda: page.texts("#hits .id")[0] == "60")
    assert {"tower", "Pisa", "built"} <= page.strengths().keys()
    assert not {"the", "The", "of", "was", "in"} & page.strengths().keys()
    *_, the = [button for button in page.all("#words button") if button.text == "the"]
    page.hover(the)  # asked for by itself, it is still shown what it matched
    assert page.all("#hits li:first-child mark.taken")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_files_are_sent_with_a_strict_policy_and_a_tag(client: httpx.Client, path: str, kind: str):
    response = client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-cache"
    tag = response.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e/app.py", "../app.py", "index.html%00"])
def test_no_other_file_is_sent(client: httpx.Client, name: str):
    assert client.get(f"/page/{name}").status_code == 404


def test_the_page_needs_nothing_from_elsewhere():
    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text, path
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text, path


def test_quantiles_are_those_of_prometheus():
    below = {0.001: 0, 0.002: 10, 0.005: 90, 0.01: 100, float("inf"): 100}
    assert quantile_ms(below, 0.5) == pytest.approx(2 + 3 * 40 / 80)
    assert quantile_ms(below, 0.95) == pytest.approx(5 + 5 * 5 / 10)
    assert quantile_ms({0.001: 0, float("inf"): 3}, 0.5) == 1
    assert quantile_ms({0.001: 0, float("inf"): 0}, 0.5) is None
    assert quantile_ms({}, 0.5) is None


def test_figures_add_up_routes_of_one_kind():
    seconds = Metric("latebolt_request_seconds", "", "histogram")
    routes = ("/v1/embeddings", "/v1/multi-vector", "/ready")
    for route, bound in itertools.product(routes, ("0.001", "+Inf")):
        seconds.add_sample("latebolt_request_seconds_bucket", {"route": route, "le": bound}, 2)
    queue = Metric("latebolt_queue_texts", "", "gauge")
    for lane in ("query", "document"):
        queue.add_sample("latebolt_queue_texts", {"lane": lane}, 5)
    found = summary([seconds, queue])
    assert found["requests"]["vectors"] == {"requests": 4, "p50_ms": 0.5, "p95_ms": 0.95}
    assert found["requests"]["search"] == {"requests": 0, "p50_ms": None, "p95_ms": None}
    assert (found["queue_texts"], found["queue_tokens"], found["errors"]) == (10, 0, {})
