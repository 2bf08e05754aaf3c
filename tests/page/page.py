"""Drive the real ComfyUI page in Chromium, with the network fenced to this machine."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias, cast
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, TimeoutError, sync_playwright

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"
Renderer: TypeAlias = Literal["classic", "vue"]
"""How the page draws nodes."""

IN_PAGE = Path(__file__).with_name("in_page.js")
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
LOOPBACK = "127.0.0.1"
AA = 4.5  # the least contrast of a text and what is behind it
READY_SECONDS = 90.0
INTERRUPT_SECONDS = 60.0
SEARCH_SECONDS, DOUBLE_CLICKS = 10.0, 3
SETTLE_SECONDS = 0.5  # the canvas is drawn a few frames after the graph has changed
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {LOOPBACK}",
)
# what every start of the page complains about: files that a fresh or a small installation lacks, its own early access
ABSENT_FILE = re.compile(r"404 .*/(user\.css|userdata\b[^/]*|comfy\.templates\.json|templates/[^/]*\.json)\)$")
EARLY_ACCESS = "ComfyApp graph accessed before initialization"


@dataclass(frozen=True)
class Event:
    """What the page heard from the host: its type, and the fields of the message."""

    type: str
    detail: Json


@dataclass(frozen=True)
class Run:
    """A queued workflow, from its start to its end: "success", "error" or "interrupted"."""

    outcome: str
    events: tuple[Event, ...]

    def details(self, event_type: str) -> list[Mapping[str, Json]]:
        """The fields of every event of one type, in order."""
        found = [event.detail for event in self.events if event.type == event_type]
        return [detail for detail in found if isinstance(detail, Mapping)]

    def texts(self) -> list[str]:
        """What nodes wrote on themselves while they ran."""
        return [str(detail["text"]) for detail in self.details("progress_text")]

    def outputs(self) -> dict[str, Json]:
        """What each output node shows, by node id."""
        return {str(detail["node"]): detail["output"] for detail in self.details("executed")}

    def error(self) -> str:
        """The message of the exception that ended the run, or an empty string."""
        return next((str(detail["exception_message"]) for detail in self.details("execution_error")), "")


@dataclass
class ComfyPage:
    """An open page; `tab` is Playwright's own handle, for anything that has no method here."""

    tab: Page
    renderer: Renderer
    blocked: list[str] = field(default_factory=list)  # tries to reach something outside this machine
    console_errors: list[str] = field(default_factory=list)  # without those of every start

    def load_workflow(self, workflow: Json, name: str = "test") -> None:
        """Open a workflow, in the form in which the page saves it."""
        self._call("loadWorkflow", {"workflow": workflow, "name": name})
        self.settle()

    def load_api_workflow(self, workflow: Mapping[str, object], name: str = "test") -> None:
        """Open a workflow in API form; its nodes keep their ids."""
        self.tab.evaluate("([workflow, name]) => window.app.loadApiJson(workflow, name)", [workflow, name])
        self.settle()

    def missing_node_types(self, workflow: Json) -> list[str]:
        """The types used by a workflow, its subgraphs included, that the page does not know."""
        return cast(list[str], self._call("missingTypes", workflow))

    def set_widget(self, node: str | int, widget: str, value: Json) -> None:
        """Set a widget of the one node with this id, type or title; raises playwright's Error if there is no such."""
        self._call("setWidget", {"node": str(node), "widget": widget, "value": value})

    def replace_nodes(self, old_type: str, new_type: str, widgets: Mapping[str, Json]) -> int:
        """Put a new node with the same output links in place of each node of a type; returns how many there were."""
        count = self._call("replaceNodes", {"oldType": old_type, "newType": new_type, "widgets": widgets})
        return cast(int, count)

    def api_prompt(self) -> Json:
        """The graph as the page would send it to the host."""
        return self._call("apiPrompt")

    def queue(self) -> bool:
        """Queue the graph; False if the host refused it, see node_errors."""
        return cast(bool, self._call("queue"))

    def wait_for_end(self, seconds: float) -> Run:
        """Wait for the queued graph to end; raises playwright's TimeoutError."""
        self._wait_until("hasEnded", seconds)
        report = cast(Mapping[str, list[Mapping[str, Json]]], self._call("report"))
        events = tuple(Event(cast(str, event["type"]), event["detail"]) for event in report["events"])
        return Run(cast(str, report["outcome"]), events)

    def interrupt(self) -> None:
        """Cancel what runs by the page's own button, and wait until it has ended; raises playwright's TimeoutError."""
        self.tab.get_by_label("Cancel current run").first.click()
        self._wait_until("hasEnded", INTERRUPT_SECONDS)

    def node_errors(self) -> Json:
        """What the host found wrong with the graph when it refused it, by node id; None if nothing."""
        return self._call("nodeErrors")

    def set_theme(self, name: str) -> None:
        """Choose one of the host's own themes: "dark" is the one it begins with."""
        self.tab.evaluate("(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)", name)
        self.settle()

    def contrasts(self, selector: str) -> dict[str, float]:
        """The contrast of each text and what is behind it, by its class."""
        return cast(dict[str, float], self._call("contrasts", selector))

    def show_all(self) -> None:
        """Bring the whole graph into view: what lies outside is not in the page."""
        self._call("fitView")
        self.settle()

    def keep_screenshot(self, name: str) -> None:
        """Keep a picture of the page for people to look at."""
        self.settle()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=SCREENSHOTS / f"{name}_{self.renderer}.png")

    def open_search(self) -> None:
        """Open the search for nodes by a double click on the canvas. On a busy machine the two clicks can come too far
        apart, so it clicks again; raises playwright's TimeoutError after the last time."""
        box = self.tab.get_by_placeholder("Add a node", exact=False)
        for _ in range(DOUBLE_CLICKS - 1):
            self.tab.mouse.dblclick(800, 600)
            try:
                return box.wait_for(timeout=SEARCH_SECONDS * 1000)
            except TimeoutError:
                continue
        self.tab.mouse.dblclick(800, 600)
        box.wait_for()

    def settle(self) -> None:
        """Give the page time to draw."""
        self.tab.wait_for_timeout(SETTLE_SECONDS * 1000)

    def wait_until_ready(self) -> None:
        """Wait until nothing covers the canvas and every node type is known."""
        self._wait_until("isReady", READY_SECONDS)

    def hear_request(self, request: Request) -> None:
        """Record a request that is not to this machine; CHROMIUM_ARGUMENTS let none of these leave it."""
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.hostname != LOOPBACK:
            self.blocked.append(request.url)

    def hear_console(self, message: ConsoleMessage) -> None:
        """Record an error that the page's console shows; what the host's own policy forbids is never requested."""
        line = f"{message.text} ({message.location['url']})"
        if message.type != "error" or message.text == EARLY_ACCESS or ABSENT_FILE.search(line):
            return
        records = self.blocked if "Content Security Policy" in line else self.console_errors
        records.append(line)

    def hear_exception(self, error: Error) -> None:
        """Record an exception that nothing in the page caught."""
        self.console_errors.append(error.message)

    def _call(self, function: str, argument: Json = None) -> Json:
        return cast(Json, self.tab.evaluate(f"argument => window.headForcingTest.{function}(argument)", argument))

    def _wait_until(self, function: str, seconds: float) -> None:
        self.tab.wait_for_function(f"() => window.headForcingTest?.{function}()", timeout=seconds * 1000)


@contextmanager
def open_page(
    url: str, renderer: Renderer = "classic", settings: Mapping[str, Json] | None = None
) -> Iterator[ComfyPage]:
    """Open the page of the host at `url` in a browser with an empty profile, ready for input.

    `settings` are further ones of the host's own; like the renderer they stay set on the host.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=os.environ.get("HEADFORCING_CHROMIUM", "/usr/bin/chromium"),
            headless=True,
            viewport={"width": 1600, "height": 1000},
            args=list(CHROMIUM_ARGUMENTS),
        )
        try:
            # without the first the page opens with a dialog over the canvas
            always = {"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": renderer == "vue"}
            send_settings(context, url, {**always, **(settings or {})})
            yield enter_page(context, url, renderer)
        finally:
            context.close()


def send_settings(context: BrowserContext, url: str, settings: Mapping[str, Json]) -> None:
    """Store settings on the host; raises RuntimeError if it refuses one."""
    for name, value in settings.items():
        headers = {"Content-Type": "application/json"}  # a bare word would be sent as it is
        answer = context.request.post(f"{url}/api/settings/{name}", data=json.dumps(value), headers=headers)
        if not answer.ok:
            raise RuntimeError(f"the host answered {answer.status} to the setting {name}={value!r}")


def enter_page(context: BrowserContext, url: str, renderer: Renderer) -> ComfyPage:
    """Open the page in the browser's first tab, with the recorders in place before it loads."""
    page = ComfyPage(context.pages[0], renderer)
    context.add_init_script(path=IN_PAGE)
    context.on("request", page.hear_request)
    page.tab.on("console", page.hear_console)
    page.tab.on("pageerror", page.hear_exception)
    page.tab.goto(url, wait_until="domcontentloaded")
    page.wait_until_ready()
    return page
