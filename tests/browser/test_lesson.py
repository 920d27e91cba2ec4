"""Lessons as a learner meets them: JupyterLab in headless Chromium, all cells run, no error."""

import json
import os
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
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
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
    command += ["--LabApp.expose_app_in_browser=True"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={tmp_path}", "--ip=127.0.0.1"]
    env = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
    }
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
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


# What "Run > Run All Cells" and Ctrl-S do. Clicking the menu before the kernel answers runs nothing.
RUN_ALL = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await window.jupyterapp.commands.execute("notebook:run-all-cells");
  await panel.context.save();
}"""


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem[:2])
def test_a_lesson_runs_in_a_browser(lab, lesson):
    outside = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(180_000)
        page.on("request", lambda request: outside.append(request.url))
        page.goto(f"{lab}/lab/tree/notebooks/{lesson.name}?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.evaluate(RUN_ALL)
        page.screenshot(path=ROOT / "build" / "log" / f"lesson-{lesson.stem[:2]}.png")
        shown = page.locator(".jp-OutputArea-output").count()
        browser.close()

    with urlopen(f"{lab}/api/contents/notebooks/{lesson.name}?token={TOKEN}", timeout=30) as answer:
        cells = json.load(answer)["content"]["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    errors = [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    assert not errors, errors
    assert all(cell["execution_count"] for cell in code), "some cell did not run"
    assert shown > 0, "the browser shows no output"
    beyond = [url for url in outside if not url.startswith((lab, "data:", "blob:"))]
    assert not beyond, f"a lesson asks nothing of the outside: {beyond}"
