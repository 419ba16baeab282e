"""One content, two renderings."""

import base64
import html.parser

from ror_jax.report.page import Picture, Section, Table, write_page

VOID = ("meta", "img", "!doctype")


class Balance(html.parser.HTMLParser):
    """Collects tags, sources and links, and checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.references = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_markdown_and_html_have_the_same_content(tmp_path):
    picture = tmp_path / "a folder" / "x.png"
    picture.parent.mkdir()
    picture.write_bytes(b"not really a picture")
    sections = [
        Section("Title <1>", ["*Ours* is **not** 5 < 6."]),
        Section("Numbers", [Table(["", "a|b"], [["*ours*", "1 & 2"]]), ("one", "two"), Picture(picture, "A picture")]),
    ]
    markdown, page = (path.read_text() for path in write_page(sections, tmp_path / "out", "page"))
    assert markdown == (
        "# Title <1>\n\n*Ours* is **not** 5 < 6.\n\n## Numbers\n\n|  | a\\|b |\n|---|---:|\n| *ours* | 1 & 2 |\n\n"
        "- one\n- two\n\n![A picture](../a%20folder/x.png)\n"
    )
    for part in (
        "<h1>Title &lt;1&gt;</h1>",
        "<p><em>Ours</em> is <strong>not</strong> 5 &lt; 6.</p>",
        '<td class="l"><em>ours</em></td><td class="r">1 &amp; 2</td>',
        '<th class="r">a|b</th>',
        "<li>one</li><li>two</li>",
    ):
        assert part in page
    balance = Balance(page)
    assert set(balance.references) == {
        "#s1",
        f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}",
    }
    assert not {"script", "link", "iframe"} & set(balance.tags)
    assert "url(" not in page and "@import" not in page
    assert 'name="viewport"' in page and "prefers-color-scheme: dark" in page
