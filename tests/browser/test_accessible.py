"""Every view, live and as a sanitizer leaves it, light and dark, wide and narrow: axe-core has no complaint."""

import re
import shutil

import bpfsim
import pytest
from axe_playwright_python.sync_playwright import Axe
from bpfsim.exercises import expect
from bpfsim.views import Frame, Stepper
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# What JupyterLab's two themes set, of what our views use.
THEMES = {
    "light": ":root {--jp-ui-font-color1: rgba(0,0,0,.87); --jp-ui-font-color2: rgba(0,0,0,.54); background: #fff;"
    "--jp-layout-color0: #fff; --jp-border-color2: #e0e0e0; --jp-brand-color1: #1976d2}",
    "dark": ":root {--jp-ui-font-color1: #fff; --jp-ui-font-color2: rgba(255,255,255,.7); background: #111;"
    "--jp-layout-color0: #111; --jp-border-color2: #616161; --jp-brand-color1: #2196f3}",
}
COUNT = "r1 = map[counts]\nr0 = 2\nexit"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")


def views():
    """One of each, from a machine in which something happened."""
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    counts = task.map_create("hash", key_size=4, value_size=8, max_entries=8, name="counts")
    counts[1] = 5
    with k.trace() as load:
        prog = task.prog_load("xdp", COUNT, maps={"counts": counts}, name="count")
    link = task.link_create(prog, "eth0")
    other = k.spawn("other")
    link.pin("/sys/fs/bpf/link")
    lru = task.map_create("lru_hash", key_size=4, value_size=4, max_entries=4)
    queue = task.map_create("queue", key_size=0, value_size=4, max_entries=4)
    for n in range(3):
        lru[n] = n
        queue.push(n)
    question = expect("What is <code>refcnt</code>?", 2, "Right: two.", (1, "And the link?"))
    last = len(k.history)
    yield from (load.functions, prog.stages, k.graph(), k.history, prog.ledger, k.history[:4], k.gates)
    yield from (k.history.film(last - 3, last, events=True), k.history.cursor().back(), k.history.watch(prog))
    yield from (counts.view(), lru.view(), queue.view(), queue.ops, bpfsim.map_ops())
    yield from (question, question.check(2), question.check(1))
    yield k.races({"a": (task, lambda t: counts.on(t).close()), "b": (other, lambda t: t.exit())})


@pytest.fixture(scope="module")
def shown():
    return "".join(f"<div>{view._repr_html_()}</div>" for view in views())


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize(("form", "theme", "wide"), [("static", "light", 1280), ("live", "dark", 800)])
def test_axe_has_no_complaint(browser, shown, form, theme, wide):
    body = shown if form == "live" else re.sub(r"<script\b.*?</script>", "", shown, flags=re.S)
    page = browser.new_page(viewport={"width": wide, "height": 1000})
    page.set_content(
        f"<!doctype html><html lang='en'><title>views</title><style>{THEMES[theme]}"
        f"body {{color: var(--jp-ui-font-color1); font-family: sans-serif}}</style><main><h1>views</h1>{body}</main>"
    )
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    page.close()
    assert found.violations_count == 0, found.generate_report()


def test_a_film_is_walked_through_with_keys_buttons_and_the_slider(browser):
    frames = [Frame(f"step {n}", f"<p>frame {n}</p>", str(n)) for n in range(4)]
    page = browser.new_page()
    page.set_content(Stepper(frames)._repr_html_())
    caption = page.locator(".caption")
    assert caption.text_content() == "step 0"
    page.locator(".bpfsim").focus()
    for key, shown in [("ArrowRight", 1), ("j", 2), ("ArrowRight", 3), ("ArrowRight", 3), ("k", 2), ("ArrowLeft", 1)]:
        page.keyboard.press(key)
        assert (caption.text_content(), page.locator("output").text_content()) == (f"step {shown}", f"{shown + 1} of 4")
    page.get_by_role("button", name="next step").click()
    page.get_by_role("button", name="next step").click()
    assert page.locator(".frame").text_content() == "frame 3"
    assert page.get_by_role("button", name="next step").is_disabled()
    page.get_by_role("slider").fill("0")
    assert page.locator(".frame").text_content() == "frame 0"
    page.close()


def film_page(browser, width):
    """A film whose pictures are wider than the page, at its first drawing."""
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    counts = task.map_create("hash", name="a_long_name_too")
    task.prog_load("xdp", COUNT, maps={"counts": counts}, name="a_long_name")
    task.fork().exit()
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_content(k.history.film(0, len(k.history), events=True)._repr_html_())
    return page


@pytest.mark.parametrize("clicked", [".frame svg", ".frame summary", "button[data-by='1']"])
def test_keys_go_on_after_a_click_into_a_drawing_or_an_end(browser, clicked):
    page = film_page(browser, 900)
    output = page.locator("output")
    last = int(output.text_content().split(" of ")[1])
    assert last > 4
    page.locator(clicked).click()
    start = int(output.text_content().split(" of ")[0])
    for _ in range(2 * last):
        page.keyboard.press("ArrowRight")
    assert output.text_content() == f"{last} of {last}"
    for n in range(1, last):
        page.keyboard.press("ArrowLeft")
        assert output.text_content() == f"{last - n} of {last}"
    assert start <= 2 and page.evaluate("document.activeElement !== document.body")
    page.close()


def test_a_film_keeps_what_is_open_and_shows_where_something_changed(browser):
    page = film_page(browser, 320)
    page.locator(".bpfsim").first.focus()
    page.locator(".frame summary").click()
    sights = []
    for _ in range(int(page.locator("output").text_content().split(" of ")[1]) - 1):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.querySelector('.frame details').open"), "in words stays open"
        sights.append(page.evaluate("document.querySelector('.frame [role=group]').scrollLeft"))
    assert len(set(sights)) > 2, f"what has changed is brought into sight: {sights}"
    farthest = str(sights.index(max(sights)) + 1)
    for _ in range(2):
        page.get_by_role("slider").fill(farthest)
        assert page.evaluate("document.querySelector('.frame [role=group]').scrollLeft") > 0, "it stays where it was"
    page.close()


def test_a_film_draws_and_tells_live_what_python_says_of_each_frame(browser):
    """The script puts a frame together from differences; Python makes the same of the whole graph."""
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    counts = task.map_create("hash", name="counts")
    task.prog_load("xdp", COUNT, maps={"counts": counts}, name="count")
    counts.pin("/sys/fs/bpf/a<b>&amp;{0}")
    task.fork()
    counts.close()
    task.exit()
    film = k.history.film(events=True)
    page = browser.new_page()
    page.set_content(film._repr_html_())
    page.evaluate("void (window.textOf = cell => cell.innerText)")
    page.locator(".frame summary").click()
    places = [0, *range(len(film.frames)), *reversed(range(len(film.frames)))]
    for at in places:
        page.get_by_role("slider").fill(str(at))
        shot = film.frames[at]
        drawn, alike = page.evaluate(SHAPES, shot.graph.svg(shot.layout, shot.changed))
        assert drawn and drawn == alike, at
        described = f"{len(shot.graph.nodes)} objects and {len(shot.graph.edges)} references"
        assert page.locator(".frame svg").get_attribute("aria-label").startswith(described)
        words = page.locator(".frame details div").inner_text()
        assert [line for line in shot.changed.lines() if line.strip() not in words] == []
        name = {node.serial: node.label for node in shot.graph.nodes}
        rows = page.evaluate(
            "[...document.querySelectorAll('.frame tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
        )
        assert sorted(rows) == sorted([name[e.holder], e.via, name[e.held]] for e in shot.graph.edges)
    page.close()


# The shapes of the picture in the page, and of another, in any order.
SHAPES = """svg => {
  const other = Object.assign(document.createElement("div"), {innerHTML: svg}).querySelector("svg");
  const shapes = found => [...found].map(shape => shape.outerHTML).sort();
  const host = document.querySelector(".frame [role=group] div");
  return [shapes(host.shadowRoot.querySelectorAll("svg > g > g")), shapes(other.querySelectorAll(":scope > g"))];
}"""


def test_a_step_of_a_film_touches_only_what_looks_otherwise(browser):
    k = bpfsim.Kernel()
    task = k.spawn("bash")
    for n in range(40):
        task.map_create("hash", name=f"map{n}")
    page = browser.new_page()
    page.set_content(k.history.film()._repr_html_())
    page.locator(".bpfsim").first.focus()
    page.get_by_role("slider").fill("30")
    page.evaluate("""void (window.touched = 0, new MutationObserver(all => { window.touched += all.length; }).observe(
        document.querySelector(".frame [role=group] div").shadowRoot, {childList: true, subtree: true}))""")
    whole = page.evaluate(
        "document.querySelector('.frame [role=group] div').shadowRoot.querySelectorAll('g > g').length"
    )
    for key in ("ArrowRight", "ArrowLeft"):
        page.evaluate("void (window.touched = 0)")
        page.keyboard.press(key)
        touched = page.evaluate("new Promise(done => setTimeout(() => done(window.touched)))")
        assert 0 < touched < 10 < whole, (key, touched, whole)
    assert page.evaluate("getComputedStyle(document.querySelector('.frame')).fontWeight") == "400"
    page.close()
