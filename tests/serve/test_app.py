"""What the server answers, and what it refuses."""

import asyncio
import http.client
import json
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest
from fake_model import encoded, serving
from PIL import Image
from starlette.testclient import TestClient

from ror_jax.predict.model import Model
from ror_jax.serve import app as application
from ror_jax.serve import batching, upload
from ror_jax.serve.app import create_app
from tools import load


def png_header(width, height):
    """A PNG file that says how large it is, and ends."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


def test_answers_are_those_of_the_model(exported, faces, two_faces, tmp_path):
    """Several files and both ways of seeing a face, in the order in which they were sent."""
    model = Model(exported, "xla")
    paths = [tmp_path / name for name in ("first.jpg", "two.png", "last.jpg")]
    for path, data in zip(paths, (faces[0], two_faces, faces[1]), strict=True):
        path.write_bytes(data)
    with TestClient(create_app(model, "")) as client:
        for views in ("single", "flip"):
            expected = model.predict(paths, views=views)
            files = [("files", (path.name, path.read_bytes())) for path in paths]
            answer = client.post("/predict", params={"views": views}, files=files).json()
            assert answer.keys() == {"photographs", "seconds"} and answer["seconds"] > 0
            assert [len(photograph["faces"]) for photograph in expected] == [1, 2, 1]
            for photograph, wanted, path in zip(answer["photographs"], expected, paths, strict=True):
                assert load.same(photograph, wanted | {"photograph": path.name})


def test_requests_share_a_call_of_the_network(model, faces, monkeypatch):
    """Three requests of a face each, and a batcher that waits until it has three."""
    monkeypatch.setattr(batching, "PATIENCE", 60.0)
    monkeypatch.setattr(application, "BATCH", 3)
    with TestClient(create_app(model, "")) as client, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda face: client.post("/predict", files={"files": face}), faces[:3]))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert model.calls == [(3, "single")]


def test_fifty_clients_at_once_each_get_their_own(model, faces, two_faces, tmp_path):
    """Nothing is lost or exchanged, by the tool that measures it."""
    for number, data in enumerate([*faces, two_faces]):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    with serving(create_app(model, "")) as address:
        report = load.run(address, sorted(tmp_path.iterdir()), clients=50, requests=3)
    assert report["answered"] == 150 and report["failed"] == {} and report["wrong"] == 0
    assert max(faces for faces, _ in model.calls) > 1


def test_a_bad_file_among_good_ones_has_its_problem(send, faces):
    answer = send(faces[0], b"no image", faces[1], encoded(Image.new("RGB", (64, 64))))
    assert answer.status_code == 200
    problems = [photograph["problem"] for photograph in answer.json()["photographs"]]
    assert problems[0] is problems[2] is None and problems[3] == "no face was found"
    assert "1.jpg" in problems[1] and "cannot be decoded" in problems[1]


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda face: b"no image", 415, "it is no image in one of the formats"),
        (lambda face: b"", 422, "the file is empty"),
        (lambda face: face[: len(face) // 2], 422, "cannot be decoded"),
        (lambda face: png_header(8_000, 8_000), 413, "8000x8000 pixels are more than"),
        (lambda face: png_header(50, 50), 422, "cannot be decoded"),
        (lambda face: face + bytes(upload.MAX_FILE), 413, "larger than 20 MB"),
    ],
)
def test_files_that_cannot_be_read(make, status, words, model, send, faces):
    """One sentence and its status; several such files count them."""
    answer = send(make(faces[0]))
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"] and answer.json()["error"].endswith(".")
    assert answer.headers["cache-control"] == "no-store" and model.calls == []
    several = send(make(faces[0]), b"no image")
    assert several.status_code == status and ("None of the 2 photographs" in several.text or "20 MB" in several.text)


def form(body, boundary="x"):
    return {"content": body, "headers": {"content-type": f"multipart/form-data; boundary={boundary}"}}


PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (form(b"--x--\r\n"), 400, "no files"),
        (form(PART.replace(b"a.jpg", b"") + b"\r\n--x--\r\n"), 400, "no files"),  # of a form where none was chosen
        (form(PART.replace(b"files", b"photos") + b"abc\r\n--x--\r\n"), 400, "the field 'files'"),
        (form(PART + b"abc"), 400, "cut off"),
        (form(b""), 400, "cut off"),
        (form(b"nonsense"), 400, "cannot be read"),
        (form(b"--x\r\n" + b"A: b\r\n" * 1000), 400, "cannot be read"),
        (form(b"", boundary="x" * 1000), 400, "cannot be read"),
        ({"json": {"files": []}}, 415, "multipart/form-data"),
        ({"headers": {"content-type": "multipart/form-data"}, "content": b"a"}, 415, "multipart/form-data"),
        (form((PART + b"a\r\n") * 17 + b"--x--\r\n"), 413, "more than 16 files"),
        ({"params": {"views": "ten_crop"}, "files": {"files": b"a"}}, 400, "'single' or 'flip'"),
        (
            {"params": {"faces": "cropped"}, "files": {"files": b"a"}},
            400,
            "no parameter 'faces'; the only one is views",
        ),
    ],
)
def test_requests_that_make_no_sense(request_, status, words, client):
    answer = client.post("/predict", **request_)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"] and answer.json()["error"].endswith(".")


def ask(app, chunks, headers=()):
    """Sends pieces of a body to the application itself, without a length; returns status and what it took of them."""
    sent, taken = [], []

    async def receive():
        await asyncio.sleep(0)
        chunk = next(chunks, None)
        if chunk is None:
            await asyncio.sleep(60)
        taken.append(len(chunk))
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message):
        sent.append(message | {"taken": sum(taken)})

    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x"), *headers]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers, "state": {}}

    async def run():
        async with app.router.lifespan_context(app):
            await app(scope | {"http_version": "1.1", "scheme": "http"}, receive, send)

    asyncio.run(run())
    return sent[0]["status"], sent[0]["taken"], json.loads(sent[1]["body"])["error"]


def endless(*beginning):
    yield from beginning
    while True:
        yield bytes(50_000)


@pytest.mark.parametrize(
    ("beginning", "limit", "words"),
    [
        (PART, upload.MAX_FILE, "a.jpg: the file is larger"),
        (PART.replace(b"files", b"other"), upload.MAX_REQUEST, "request"),
    ],
)
def test_a_body_is_stopped_while_it_comes(beginning, limit, words, model, monkeypatch):
    """At the piece that is too much, though no length was said; what still comes is thrown away for a while only."""
    monkeypatch.setattr(application, "LINGER", 0.05)
    status, taken, error = ask(create_app(model, ""), endless(beginning))
    assert status == 413 and words in error and limit < taken <= limit + 100_000


def test_a_length_that_is_too_large_is_refused_at_once(model, monkeypatch):
    monkeypatch.setattr(application, "LINGER", 0.05)
    length = (b"content-length", str(upload.MAX_REQUEST + 1).encode())
    assert ask(create_app(model, ""), endless(PART), [length])[:2] == (413, 0)


def test_who_sends_too_much_can_read_why(model, monkeypatch):
    """A client that sends all before it reads: it is not cut off while it does."""
    monkeypatch.setattr(upload, "MAX_REQUEST", 1000)
    with serving(create_app(model, "")) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("POST", "/predict", bytes(30_000_000), form(b"")["headers"])
        answer = connection.getresponse()
        assert answer.status == 413 and "larger than" in json.loads(answer.read())["error"]
        assert answer.headers["connection"] == "close"


def test_who_sends_too_slowly_is_not_waited_for(model, monkeypatch):
    monkeypatch.setattr(application, "LINGER", 0.05)
    monkeypatch.setattr(application, "TIME", 0.1)
    status, _, error = ask(create_app(model, ""), iter([PART]))
    assert status == 408 and "did not arrive" in error


def test_a_network_that_hangs_is_not_waited_for(model, send, faces, monkeypatch):
    """And it is asked again when it works again."""
    monkeypatch.setattr(application, "TIME", 0.5)
    model.gate.clear()
    answer = send(faces[0])
    assert answer.status_code == 503 and answer.headers["retry-after"] and "longer" in answer.json()["error"]
    model.gate.set()
    monkeypatch.setattr(application, "TIME", 60.0)
    assert send(faces[0]).status_code == 200


def test_a_network_that_fails_is_told_and_asked_again(model, send, faces):
    model.failures.append(RuntimeError("no memory left"))
    answer = send(faces[0])
    assert answer.status_code == 500 and "The network failed" in answer.json()["error"]
    assert "memory" not in answer.text and send(faces[0]).status_code == 200


def test_a_detector_that_fails_is_told(model, client, send, faces, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(application.Reader, "_look", fail)
    answer = send(faces[0])
    assert (answer.status_code, list(answer.json())) == (500, ["error"]) and "secret" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_too_many_requests_are_sent_away(model, send, faces, monkeypatch):
    """While as many wait as may; they are served, and then others are."""
    monkeypatch.setattr(application, "WAITING", 2)
    model.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(send, faces[0])
        model.called.wait(60)
        second = pool.submit(send, faces[1])
        while (refused := send()).status_code != 503:  # the second one was not there yet
            assert refused.status_code == 415
        assert int(refused.headers["retry-after"]) > 0 and refused.json()["error"]
        model.gate.set()
        assert first.result().status_code == second.result().status_code == 200
    assert send(faces[0]).status_code == 200


def test_pages_from_elsewhere_are_kept_out(model, faces):
    """By the name that they call the server by, or by the origin that browsers tell."""
    with TestClient(create_app(model, "", hosts={"localhost", "127.0.0.1", "::1"})) as client:

        def status(host, **headers):
            return client.post("/predict", files={"files": faces[0]}, headers={"host": host} | headers).status_code

        for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
            assert status(host) == 200
        for host in ("evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", "[::1", ""):
            assert status(host) == 403
        assert status("localhost:8000", origin="http://localhost:8000") == 200
        for origin in ("http://evil.example", "null", "http://localhost:8001", "http://localhost", "http://[", ""):
            assert status("localhost:8000", origin=origin) == 403
        allowed = client.options("/predict", headers={"host": "localhost", "origin": "http://localhost"})
        assert not [name for name in allowed.headers if name.startswith("access-control")]
    with TestClient(create_app(model, ""), base_url="http://anything.example") as client:
        assert client.get("/health").status_code == 200
    with TestClient(create_app(model, "", hosts={"127.0.0.1"}, names={"faces.example"})) as client:
        assert status("faces.example", origin="https://faces.example") == 200  # a server before it keeps the name
        assert status("127.0.0.1:8000", origin="https://faces.example") == 200  # or does not
        assert status("127.0.0.1:8000", origin="https://evil.example") == 403


def test_the_page_is_always_the_page(client):
    assert "<title>" in client.get("/?page=%3Cscript%3E").text
    assert client.head("/").status_code == 200


def test_a_form_of_very_many_parts_is_refused(client):
    parts = b"--x\r\nA: b\r\n\r\n\r\n" * 101 + b"--x--\r\n"
    answer = client.post("/predict", content=parts, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413 and "more than 100 parts" in answer.json()["error"]


def test_the_model_says_how_often_to_look_at_a_face(model, faces):
    model.views = "flip"
    with TestClient(create_app(model, "")) as client:
        client.post("/predict", files={"files": faces[0]})
    assert model.calls == [(1, "flip")]


_written, _watching = [], False


def _audit(event, arguments):
    if _watching and event == "open" and arguments[2] & 3:  # O_WRONLY, O_RDWR
        _written.append(arguments[0])


def test_nothing_is_written_or_logged(send, drawn, capfd, caplog):
    """Of a file of many megabytes, of a bad one, of their names."""
    global _watching
    large = encoded(drawn[0].resize((1500, 1500)), "BMP")
    send(large)  # what is imported or opened once is not of interest
    sys.addaudithook(_audit)
    _watching = True
    try:
        assert len(large) > 6_000_000 and send(large).status_code == 200
        assert send(b"no image" * 1_000_000).status_code == 415
    finally:
        _watching = False
    assert _written == []
    assert "".join(capfd.readouterr()) == "" and not [record for record in caplog.records if "jpg" in record.message]


def test_health_and_model(exported):
    model = Model(exported, "xla")
    with TestClient(create_app(model, "# A model\n")) as client:
        health, about = client.get("/health").json(), client.get("/model").json()
    assert health["ok"] is True and health["model"] == "random" and health["engine"] == "xla"
    assert health["versions"]["jax"] == jax.__version__
    assert about == {"card": model.card, "answers": json.loads(json.dumps(model.answers)), "description": "# A model\n"}
    assert [(name, form["kind"]) for name, form in about["answers"].items()] == [
        ("age", "number"),
        ("age_group", "class"),
        ("gender", "class"),
    ]


def test_the_interface_is_described(client):
    described = client.get("/openapi.json").json()
    assert described["paths"].keys() == {"/predict", "/health", "/model"}
    assert all(operation["summary"] for path in described["paths"].values() for operation in path.values())
    predict = described["paths"]["/predict"]["post"]
    assert predict["responses"].keys() == {"200", "4XX", "5XX"}
    assert predict["parameters"][0]["schema"]["enum"] == ["single", "flip"]
    body = predict["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert body["properties"]["files"]["items"]["format"] == "binary"
    for path in ("/docs", "/redoc", "/nothing"):
        assert (client.get(path).status_code, client.get(path).json()) == (404, {"error": "Not Found."})
    assert client.get("/predict").status_code == 405


def test_the_page_loads_nothing_from_elsewhere(client):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind) and len(answer.text) > 500
        assert "//" not in answer.text.replace("// ", "") and "@import" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and answer.headers["cache-control"] == "no-store"
        )
