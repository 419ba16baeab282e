"""The page in a real browser, which also says what its content security policy forbade."""

import base64
import contextlib
import io
import re
import shutil

import numpy as np
import pytest
from fake_model import GROUPS, FakeModel, encoded, serving
from PIL import Image

from input_pipeline.alignment import align, template
from input_pipeline.detection import YuNet
from input_pipeline.geometry import apply
from ror_jax.serve.app import create_app
from ror_jax.tasks.answers import Class, Points

playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs Chromium, such as Debian's package of that name", allow_module_level=True)

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")  # a picture that moves, no face
CARD = """# A card

Text with **strong** and *soft* words, `code`, [a link](http://evil.example)
over two lines. <img src=x onerror="document.title = 'taken'"> <script>document.title = 'taken'</script>

- one
- two,
  which is longer

| name | share |
|---|---:|
| a\\|b | 12 |

![a picture](results.png)

```sh
# no heading
```
"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        playwright.expect.set_options(timeout=30_000)  # milliseconds
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address():
    with serving(create_app(FakeModel(), CARD)) as address:
        yield address


@pytest.fixture
def page(browser, address):
    """The page; in the end nothing was forbidden, failed, or asked of elsewhere."""
    size, rights = {"width": 1000, "height": 800}, ["clipboard-read", "clipboard-write"]
    context = browser.new_context(viewport=size, permissions=rights)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    refused = re.compile(r"Failed to load resource: the server responded with a status of 4\d\d")  # of a bad photograph
    assert [line for line in said if not refused.match(line)] == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    context.close()


def upload_files(page, *files):
    """Gives files, (name, bytes), to the page; waits until they are read."""
    before = page.locator("article").count()
    page.set_input_files("#files", [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in files])
    wait(page, before + len(files))


def wait(page, articles):
    playwright.expect(page.locator("article")).to_have_count(articles)
    playwright.expect(page.locator("article[aria-busy]")).to_have_count(0)


def test_a_photograph_becomes_boxes_and_readings(page, two_faces):
    """A box over each face, at its place in the photograph; a scale, charts, and words for who does not see them."""
    upload_files(page, ("two.png", two_faces))
    boxes, picture = page.locator(".box"), page.locator(".picture img").bounding_box()
    assert boxes.count() == page.locator(".face").count() == 2
    first, second = (boxes.nth(at).bounding_box() for at in (0, 1))
    middle = picture["x"] + picture["width"] / 2
    assert picture["x"] < first["x"] and first["x"] + first["width"] < middle < second["x"] + 1
    face = page.locator(".face").first
    targets = [part.split("\n")[0] for part in face.locator(".target").all_inner_texts()]
    assert targets == ["Age", "Age group", "Gender", "Label", "Attributes"]
    assert face.locator(".scale .range").evaluate("range => [range.style.left, range.style.width]") == ["10%", "80%"]
    words = face.inner_text().replace("\xa0", " ")
    assert "Probably 10 to 90 years; such an interval held the truth for 90 % of 50 test faces." in words
    charts = face.locator(".bars")
    assert charts.nth(0).locator("li").count() == 8
    assert charts.nth(0).locator(".chosen").inner_text().startswith("25-32")
    assert charts.nth(2).locator("li").count() == 5  # the likeliest of twenty
    status = page.locator("#status").text_content()
    assert status.startswith("The photograph was read. two.png: 2 faces: face 1, age ") and "gender female" in status
    assert status.endswith(", attributes Smiling, Big Nose.")
    assert "300 \u00d7 150 pixels" in page.locator("article").inner_text()


def test_flags_that_hold_are_named_and_all_have_a_bar(page, faces):
    upload_files(page, ("a.jpg", faces[0]))
    flags = page.locator(".target").last
    assert flags.locator(".answer").inner_text() == "Smiling, Big Nose"
    bars = [bar.replace("\xa0", " ").split("\n") for bar in flags.locator("li").all_inner_texts()]
    assert bars == [["Smiling", "90 %"], ["Bald", "20 %"], ["Big Nose", "60 %"]]
    assert flags.locator(".chosen").count() == 2


def test_points_are_dots_where_they_lie_in_the_photograph(page, two_faces):
    """The fake model's points are the template of crops, which lies as nearly as it can where the detector saw them."""
    upload_files(page, ("two.png", two_faces))
    image = Image.open(io.BytesIO(two_faces))
    crops = [align(image, face.landmarks, template(), 16, (0, 0, 0)).shares for face in YuNet()(image)]
    points = np.concatenate([apply(np.linalg.inv([*matrix, (0, 0, 1)])[:2], template()) for matrix in crops])
    picture = page.locator(".picture img").bounding_box()
    dots = [dot.bounding_box() for dot in page.locator(".dot").all()]
    found = [[dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2] for dot in dots]
    scale = picture["width"] / 300
    np.testing.assert_allclose(found, points * scale + (picture["x"], picture["y"]), atol=0.5)


@contextlib.contextmanager
def other_page(browser, model):
    with serving(create_app(model, "")) as address, browser.new_context(viewport={"width": 1000, "height": 800}) as own:
        page = own.new_page()
        page.goto(address)
        yield page


def test_an_interval_of_a_class_lies_on_the_scale_of_its_classes(browser, faces):
    spans = ((0.0, 2.0), (4.0, 6.0), (8.0, 13.0), (15.0, 20.0), (25.0, 32.0), (38.0, 43.0), (48.0, 53.0), (60.0, 80.0))
    form = {"names": GROUPS, "spans": spans, "unit": "years", "ordered": True, "title": "age"}
    group = Class(np.array([7]), interval=np.array([[48.0, 80.0]]), **form)
    with other_page(browser, FakeModel(lambda share: {"age_group": group})) as page:
        upload_files(page, ("a.jpg", faces[0]))
        assert page.locator(".answer").inner_text() == "60 years and more"
        assert page.locator(".scale .range").evaluate("range => [range.style.left, range.style.width]") == [
            "60%",
            "40%",
        ]
        assert page.locator(".scale .tick").all_inner_texts() == ["0", "16", "32", "48", "64", "80"]
        assert page.locator(".scale .point").count() == page.locator(".bars").count() == 0
        assert "Probably 48 to 80 years; such an interval held" in page.locator(".face").inner_text()


def test_points_beyond_the_photograph_are_left_out(browser, faces):
    points = Points(np.array([[(0.5, 0.5), (0.5, -9.0), (9.0, 0.5)]]))
    with other_page(browser, FakeModel(lambda share: {"points": points})) as page:
        upload_files(page, ("a.jpg", faces[0]))
        assert page.locator(".dot").count() == 1 and page.locator(".target").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 1000


def test_what_the_model_is_is_asked_again_where_the_server_gave_no_answer(browser, faces, address):
    with browser.new_context() as own:
        page = own.new_page()
        page.route("**/model", lambda route: route.abort())
        page.goto(address)
        playwright.expect(page.locator("#status")).to_have_text("The server gave no answer. Is it still running?")
        upload_files(page, ("a.jpg", faces[0]))
        assert page.locator(".wrong").inner_text().startswith("a.jpg: the server gave no answer")
        page.unroute("**/model")
        upload_files(page, ("a.jpg", faces[0]))
        assert page.locator(".face").count() == 1 and page.locator("#name").inner_text() == "a fake"


def test_what_went_wrong_is_a_sentence(page, faces):
    """Beside what went well."""
    upload_files(page, ("good.jpg", faces[0]), ("bad.jpg", b"no image"))
    assert page.locator("article h2").all_inner_texts() == ["good.jpg", "bad.jpg"]
    assert page.locator(".wrong").inner_text().startswith("bad.jpg: the image cannot be decoded")
    assert page.locator("#status").text_content().startswith("1 of 2 photographs read. good.jpg: one face: age ")


def test_a_file_that_is_too_large_is_told(page):
    """Though the server stops reading before the browser has sent it."""
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped(page, "huge.jpg", bytes(100_000), times=300)})
    wait(page, 1)
    assert page.locator(".wrong").inner_text() == "huge.jpg: the file is larger than 20 MB."


def test_a_name_is_text(page, faces):
    upload_files(page, ("<img src=x onerror=alert(1)>.jpg", faces[0]))
    assert page.locator("article h2").inner_text() == "<img src=x onerror=alert(1)>.jpg"


def dropped(page, name, data, times=1):
    """What a browser holds of a file, of these bytes so many times, that is dropped on a page."""
    return page.evaluate_handle(
        """([name, base64, times]) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
          data.items.add(new File(Array(times).fill(bytes), name, { type: "image/jpeg" }));
          return data;
        }""",
        [name, base64.b64encode(data).decode(), times],
    )


def test_drop(page, faces):
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped(page, "dropped.jpg", faces[0])})
    wait(page, 1)
    assert page.locator("article h2").inner_text() == "dropped.jpg" and page.locator(".box").count() == 1


def test_paste(page, drawn):
    png = base64.b64encode(encoded(drawn[0], "PNG")).decode()
    page.evaluate(
        """async (png) => {
          const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0)), type = "image/png";
          await navigator.clipboard.write([new ClipboardItem({ [type]: new Blob([bytes], { type }) })]);
        }""",
        png,
    )
    page.keyboard.press("Control+V")
    wait(page, 1)
    assert page.locator(".box").count() == 1


def test_camera(page):
    """It is on while it is looked through, and no longer."""
    page.click("#camera")
    page.wait_for_selector("dialog[open] video")
    page.locator("#video").evaluate("video => new Promise((ready) => video.requestVideoFrameCallback(ready))")
    page.click("#shoot")
    wait(page, 1)
    assert "No face was found" in page.locator("article").inner_text()
    assert page.locator("#video").evaluate("video => video.srcObject") is None
    assert not page.locator("dialog").is_visible()


def test_the_keyboard_is_enough(page, faces, tmp_path):
    """From the top of the page to a result, to the model's card, and to an empty page again; focus is seen."""
    (tmp_path / "a.jpg").write_bytes(faces[0])

    def press(id_, key):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.tagName") == id_:
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press(key)

    with page.expect_file_chooser() as chooser:
        press("choose", "Enter")
    chooser.value.set_files(tmp_path / "a.jpg")
    wait(page, 1)
    press("SUMMARY", "Enter")
    assert page.locator("#card").is_visible()
    press("flip", "Space")
    with page.expect_request("**/predict?views=flip"):
        page.set_input_files("#files", tmp_path / "a.jpg")
    wait(page, 2)
    press("clear", "Enter")
    assert page.locator("article").count() == 0 and page.evaluate("document.activeElement.id") == "choose"


@pytest.mark.parametrize("width", [360, 1000])
def test_no_width_needs_scrolling(page, width, two_faces):
    """With results, an error, a long name and the card open."""
    page.set_viewport_size({"width": width, "height": 700})
    upload_files(page, (f"{'long' * 40}.png", two_faces), ("bad.jpg", b"no image"))
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_card_is_text_with_a_form(page):
    """Headings, lists, tables, code and emphasis; nothing in it is taken for HTML, and no picture is asked for."""
    page.click("summary")
    card = page.locator("#card")
    assert card.locator("h3").all_inner_texts() == ["A card"]
    assert card.locator("strong, em, p code").all_inner_texts() == ["strong", "soft", "code"]
    assert card.locator("li").all_inner_texts() == ["one", "two, which is longer"]
    assert card.locator("th, td").all_inner_texts() == ["name", "share", "a|b", "12"]
    assert card.locator("td.right").inner_text() == "12" and card.locator("pre").inner_text() == "# no heading"
    assert "a link over two lines. <img src=x" in card.locator("p").first.inner_text()
    assert card.locator("img, script, a").count() == 0 and page.title() == "Faces"


def test_text_can_be_read_in_light_and_dark(page, faces):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least between all text and what is behind it."""
    upload_files(page, ("a.jpg", faces[0]), ("bad.jpg", b"no image"))
    page.click("summary")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        pairs = page.evaluate(
            """() => {
              const colours = new Set();
              for (const element of document.querySelectorAll("body *")) {
                if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
                let behind = element;
                while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
                colours.add(getComputedStyle(element).color + getComputedStyle(behind).backgroundColor);
              }
              return [...colours];
            }"""
        )
        assert len(pairs) > 5
        for pair in pairs:
            numbers = [int(number) / 255 for number in re.findall(r"\d+", pair)]
            linear = [n / 12.92 if n <= 0.04045 else ((n + 0.055) / 1.055) ** 2.4 for n in numbers]
            first, second = (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear[:3], linear[3:]))
            assert (max(first, second) + 0.05) / (min(first, second) + 0.05) >= 4.5, (scheme, pair)
