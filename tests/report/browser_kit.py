"""A page in a real browser: a headless Chromium, spoken to by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
_PATIENCE_S = 120.0


def find_browser() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """One page: commands go out and are answered, events pile up."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command's answer."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message.get('error')}"
                return message["result"]
            self.events.append(message)

    async def until(self, method: str) -> None:
        """Waits for an event."""
        while not any(event["method"] == method for event in self.events):
            self.events.append(await self._socket.receive_json())

    async def evaluate(self, script: str) -> Any:
        """What an expression (or promise) gives in the page."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def shape(self, width: int, dark: bool, media: str = "screen") -> None:
        """A window of this width, in a light or a dark scheme, on a screen or as for print."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    async def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_page(browser: str, page: Path, profile: Path) -> AsyncIterator[Tab]:
    """``page`` in a browser of its own, which has gone when the block ends."""
    options = [*_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([browser, *options], start_new_session=True, **quiet)
    try:
        async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession() as session:
            while not (port := _port(profile)):
                assert process.poll() is None, f"{browser} ended with {process.returncode}"
                await asyncio.sleep(0.1)
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                address = next(tab for tab in await answer.json() if tab["type"] == "page")["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{domain}.enable")
                await tab.call("Page.navigate", url=page.as_uri())
                await tab.until("Page.loadEventFired")
                yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _port(profile: Path) -> str:
    """Where the browser listens, once it has written that down."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        return (profile / "DevToolsActivePort").read_text().splitlines()[0]
    return ""
