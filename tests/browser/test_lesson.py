"""The first lesson as a learner meets it: JupyterLab in headless Chromium, all cells run, no error."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "notebooks" / "01_from_c_to_a_dropped_packet.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
TOKEN = "lesson"

pytestmark = [
    pytest.mark.skipif(not LESSON.exists(), reason="the first lesson is not written yet"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here"),
]


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a copy of the lessons, so that running them leaves the project as it was."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={tmp_path}", "--ip=127.0.0.1"]
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
    }
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{url}/api?token={TOKEN}", timeout=5).close()
                break
            except (URLError, OSError):
                assert server.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        else:
            pytest.fail("JupyterLab did not answer within a minute:\n" + (tmp_path / "log").read_text())
        yield url
    finally:
        server.terminate()
        server.wait(30)


def test_the_first_lesson_runs_in_a_browser(lab):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        outside = []
        page.on(
            "request", lambda r: None if r.url.startswith((lab, "data:", "blob:")) else outside.append(r.url)
        )
        page.goto(f"{lab}/lab/tree/notebooks/{LESSON.name}?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)

        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
        book = run_to_the_end(lab, page)

        errors = [o for c in book["cells"] for o in c.get("outputs", []) if o["output_type"] == "error"]
        assert not errors, errors
        assert page.locator(".jp-OutputArea-output").count() > 0
        browser.close()
    assert not outside, f"a lesson asks nothing of the outside: {outside}"


def run_to_the_end(lab, page):
    """Saves until every code cell has run: JupyterLab draws only the cells in view, the file has them all."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        page.wait_for_timeout(1000)
        page.keyboard.press("Control+s")
        page.wait_for_timeout(500)
        with urlopen(f"{lab}/api/contents/notebooks/{LESSON.name}?token={TOKEN}", timeout=30) as answer:
            book = json.load(answer)["content"]
        code = [c for c in book["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
        busy = page.locator('.jp-Notebook-ExecutionIndicator[data-status="busy"]').count()
        failed = any(o["output_type"] == "error" for c in code for o in c["outputs"])
        if failed or (all(c["execution_count"] for c in code) and not busy):
            return book
    pytest.fail("the lesson did not finish within three minutes")
