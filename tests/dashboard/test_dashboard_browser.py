"""The dashboard as a reader has it: a served page in headless Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard import launch

CHROMIUM = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]


@pytest.fixture
def served(finished: tuple[str, str]) -> Iterator[str]:
    """The address of a running dashboard on the finished job's store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(launch.command(finished[0], port, browser=False), env=env, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2):
                    break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, "the dashboard ended before it answered"
                assert time.monotonic() < deadline, "the dashboard did not answer within a minute"
                time.sleep(0.1)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_a_reader_says_what_matters_and_opens_the_network(served: str, finished: tuple[str, str], tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(30_000)
        foreign: list[str] = []
        page.on("request", lambda request: foreign.append(request.url) if not is_local(request.url, served) else None)

        page.goto(served)
        page.get_by_role("link", name="Pareto front").first.click()
        key = page.locator(".nas-key.recommended")
        expect(key).to_be_visible(timeout=30_000)
        page.locator(".js-plotly-plot .scatterlayer").first.wait_for()
        before = key.inner_text()

        for task in ("seg", "normals"):  # their weights become zero: only depth matters
            page.locator(f".st-key-prefer-{task} input").press("Home")
        expect(key).not_to_have_text(before, timeout=30_000)
        after = key.inner_text()
        page.screenshot(path=tmp_path / "front.png")

        page.get_by_role("link", name="Open this network").first.click()
        expect(page.get_by_text(f"nas export {finished[1]} --arch {after}")).to_be_visible(timeout=30_000)
        assert f"key={after}" in page.url
        assert f"job={finished[1]}" in page.url  # the address can be shared
        expect(page.locator(".st-key-samples img")).to_be_visible()
        assert page.get_by_test_id("stException").count() == 0
        page.screenshot(path=tmp_path / "network.png")
        assert (tmp_path / "network.png").stat().st_size > 20_000
        assert foreign == []  # nothing is fetched from, or told to, anyone else
        browser.close()


def is_local(url: str, served: str) -> bool:
    return url.startswith((served, served.replace("http", "ws", 1), "data:", "blob:"))
