"""Parser of a written HTML page: its tags, addresses, event handlers, and the text that is shown."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, addresses, event handlers, what is in bold as the best, and the text outside <style>."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.bold: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.bold += [tag for name, value in attrs if name == "class" and value == "best"]

    def handle_data(self, data: str) -> None:
        if self.lasttag != "style":
            self.text += data
