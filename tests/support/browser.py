"""A headless Chromium, driven through its own debugging pipe: no driver, no other package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from queue import Queue
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--remote-debugging-pipe", "--no-first-run", "--disable-extensions", "--mute-audio"),
)


class Browser:
    """One page. Commands of the DevTools protocol, separated by a zero byte, go over two pipes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # Chromium reads descriptor 3 and writes 4; bash puts them there.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._replies: Queue[dict[str, Any]] = Queue()
        self.events: list[dict[str, Any]] = []
        self._number = 0
        threading.Thread(target=self._read, daemon=True).start()
        targets = self._send("Target.getTargets", None)["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attach = {"targetId": page["targetId"], "flatten": True}
        self._session: str = self._send("Target.attachToTarget", None, **attach)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _read(self) -> None:
        held = b""
        while data := os.read(self._in.fileno(), 65536):
            *whole, held = (held + data).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if "id" in message:
                    self._replies.put(message)
                else:
                    self.events.append(message)

    def _send(self, method: str, session: str | None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        reply = self._replies.get(timeout=60)
        assert reply["id"] == self._number
        assert "error" not in reply, reply
        return reply["result"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the page's session."""
        return self._send(method, self._session, **params)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def js(self, expression: str) -> Any:
        """Value of an expression in the page."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        result = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> Any:
        """Wait until an expression is true in the page, and return it."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)
        return value

    def type(self, selector: str, text: str) -> None:
        """Into a field, as a keyboard would."""
        self.js(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press_enter(self) -> None:
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def theme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def size(self, width: int, height: int) -> None:
        screen = {"deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, **screen)

    def screenshot(self, path: Path) -> bytes:
        png = base64.b64decode(self.call("Page.captureScreenshot")["data"])
        path.write_bytes(png)
        return png

    def complaints(self) -> list[str]:
        """Exceptions, and what the browser logs as errors, blocked requests among them."""
        thrown = [e for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        logged = [e for e in self.events if e["method"] == "Log.entryAdded"]
        errors = [e for e in logged if e["params"]["entry"]["level"] == "error"]
        return [json.dumps(event["params"]) for event in [*thrown, *errors]]

    def requested(self) -> set[str]:
        """Addresses of everything that the page has asked for."""
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return {e["params"]["request"]["url"] for e in sent}

    def close(self) -> None:
        self._out.close()
        self._process.terminate()
        self._process.wait(20)
