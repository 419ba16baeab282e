"""The web application: a page for people, and the same as JSON."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from PIL import UnidentifiedImageError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException as AnyHTTPException

from input_pipeline.detection import DETECTOR
from input_pipeline.errors import DataError
from input_pipeline.transforms import EncodedImage, TooManyPixels
from ror_jax import __version__
from ror_jax.models.export import threads
from ror_jax.predict.faces import FaceFilter
from ror_jax.predict.model import BATCH, VIEWS, Model
from ror_jax.serve.batching import Batcher, NetworkFailed
from ror_jax.serve.upload import FORM, receive_files

TIME = 30.0  # seconds that a request may take, from its first byte to the answer
WAITING = 64  # requests at once
LINGER = 2.0  # seconds for which what comes after an error is thrown away

PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
ERROR = {  # for OpenAPI
    "description": "Why not, in a sentence",
    "content": {
        "application/json": {
            "schema": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
        }
    },
}


def create_app(
    model: Model,
    description: str,
    detector: str = DETECTOR,
    keep: FaceFilter | None = None,
    hosts: Collection[str] = (),
    names: Collection[str] = (),
) -> FastAPI:
    """The application; it starts its threads when it starts.

    Args:
      model: reads the faces.
      description: of the model, Markdown, for people.
      detector: finds the faces, see `input_pipeline.detection`.
      keep: which of them are read; default: all.
      hosts: names by which it may be addressed; none: any. Where only this machine can reach the server, a page from
        elsewhere whose own name was made to lead here is kept out by that.
      names: of servers before this one, which pass on what their own pages ask.

    Raises:
      DataError: there is no such detector.
    """
    reader = Reader(model, detector, keep)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        with reader:
            yield

    app = FastAPI(
        title="What a network reads from faces",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_middleware(Guard, hosts=hosts, names=names)
    app.add_exception_handler(AnyHTTPException, lambda request, error: ErrorResponse(request, error))
    app.add_exception_handler(RequestValidationError, _wrong_argument)
    app.add_exception_handler(Exception, _mistake)
    for path, (file, kind) in PAGE.items():
        page = Response((Path(__file__).parent / file).read_bytes(), media_type=kind)
        app.add_api_route(path, _always(page), methods=["GET", "HEAD"], include_in_schema=False)

    @app.post(
        "/predict",
        summary="Find and read the faces in photographs",
        openapi_extra=FORM,
        responses={"4XX": ERROR, "5XX": ERROR},
    )
    async def predict(
        request: Request,
        views: Annotated[
            Literal[*VIEWS],
            Query(description="flip: mean over a face and its mirror image; default: as the model was tested"),
        ] = model.views,
    ) -> dict[str, Any]:
        """Of each file in the form, in their order. Where one of several cannot be read, its `problem` says why."""
        if unknown := request.query_params.keys() - {"views"}:
            raise HTTPException(400, f"There is no parameter {min(unknown)!r}; the only one is views.")
        return await reader.answer(request, views)

    @app.get("/health", summary="Whether the server works, and what it runs")
    async def health() -> dict[str, Any]:
        versions = {"ror_jax": __version__} | {name: version(name) for name in ("jax", "fastapi", "uvicorn")}
        return {"ok": True, "model": model.card["name"], "engine": model.engine, "versions": versions}

    @app.get("/model", summary="The model: its model.json, and its description for people in Markdown")
    async def about() -> dict[str, Any]:
        return {"card": model.card, "answers": model.answers, "description": description}

    return app


class Reader:
    """From a request to what is in its photographs: threads decode and detect, one runs the network. A context."""

    def __init__(self, model: Model, detector: str, keep: FaceFilter | None):
        self._find, self._read, self._waiting = model.finder("detect", detector, keep), model.read, 0

    def __enter__(self):
        self._threads = ThreadPoolExecutor(threads(), "photographs")
        self._batcher = Batcher(self._read, BATCH)

    def __exit__(self, *_):
        self._threads.shutdown(wait=False, cancel_futures=True)  # one may decode for long yet
        self._batcher.close()

    async def answer(self, request: Request, views: str) -> dict[str, Any]:
        """`photographs`, see `predict.photographs.read_photographs`, and the `seconds` that it took.

        Raises:
          HTTPException: nothing could be read, for the reason given.
        """
        if self._waiting >= WAITING:
            raise HTTPException(503, "Too many requests are waiting: try again in a second.", {"Retry-After": "1"})
        self._waiting += 1
        start = time.perf_counter()
        try:
            async with asyncio.timeout(TIME):
                files = await receive_files(request)
                photographs = await asyncio.gather(*(self._photograph(data, name, views) for name, data in files))
        except TimeoutError as error:
            if not request.state.received:
                raise HTTPException(408, f"The photographs did not arrive within {TIME:g} seconds.") from error
            raise HTTPException(503, f"It took longer than {TIME:g} seconds.", {"Retry-After": "10"}) from error
        except asyncio.CancelledError as error:
            raise HTTPException(503, "The server was ended.") from error
        except NetworkFailed as error:
            raise HTTPException(500, "The network failed on these photographs; others may work.") from error
        finally:
            self._waiting -= 1
        statuses = [status for _, status in photographs]
        if 200 not in statuses:
            others = f" None of the {len(statuses)} photographs can be read." if len(statuses) > 1 else ""
            raise HTTPException(statuses[0], f"{photographs[0][0]['problem']}.{others}")
        seconds = round(time.perf_counter() - start, 3)
        return {"photographs": [photograph for photograph, _ in photographs], "seconds": seconds}

    async def _photograph(self, data: bytes, name: str, views: str) -> tuple[dict, int]:
        """A photograph with all that was read, and the HTTP status that it alone is worth."""
        loop = asyncio.get_running_loop()
        photograph, crops, status = await loop.run_in_executor(self._threads, self._look, data, name)
        readings = await asyncio.gather(*(asyncio.wrap_future(self._batcher.submit(crop, views)) for crop in crops))
        for face, reading in zip(photograph["faces"], readings, strict=True):
            face |= reading
        return photograph, status

    def _look(self, data: bytes, name: str) -> tuple[dict, list, int]:
        photograph, crops = self._find(data, name)
        return photograph, crops, 200 if photograph["width"] else _status(data, name)


def _status(data: bytes, name: str) -> int:
    """The HTTP status for a file that cannot be decoded."""
    try:
        EncodedImage(data, name)
    except TooManyPixels:
        return 413
    except DataError as error:
        return 415 if isinstance(error.__cause__, UnidentifiedImageError) else 422
    return 422


class Guard:
    """Middleware: the headers of every answer, and no answer to pages from elsewhere."""

    def __init__(self, app, hosts: Collection[str], names: Collection[str]):
        self._app, self._hosts, self._names = app, hosts and {*hosts, *names}, names

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._app
        if not self._wanted(Headers(scope=scope)):
            app = JSONResponse({"error": "The server does not answer to other pages, nor to other names."}, 403)
        await app(scope, receive, send_with_headers)

    def _wanted(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            known = not self._hosts or urlsplit(f"//{host}").hostname in self._hosts
            return known and (
                origin is None or urlsplit(origin).netloc == host or urlsplit(origin).hostname in self._names
            )
        except ValueError:  # these are no addresses
            return False


class ErrorResponse(JSONResponse):
    """`{"error": a sentence}`. Where the request is still coming, the answer is sent, and what comes is thrown away for
    a while: who is cut off while sending would not read it."""

    def __init__(self, request: Request, error: AnyHTTPException):
        self._unread = request.method == "POST" and not getattr(request.state, "received", False)
        close = {"Connection": "close"} if self._unread else {}
        super().__init__(
            {"error": f"{error.detail.rstrip('.')}."}, error.status_code, {**(error.headers or {}), **close}
        )

    async def __call__(self, scope, receive, send):
        if not self._unread:
            return await super().__call__(scope, receive, send)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body"})


def _always(answer: Response) -> Callable[[], Response]:
    return lambda: answer


def _wrong_argument(request: Request, error: RequestValidationError) -> ErrorResponse:
    first = error.errors()[0]
    sentence = f"{first['loc'][-1]} is {first['input']!r}; {first['msg'].replace('Input', 'it')}."
    return ErrorResponse(request, HTTPException(400, sentence))


def _mistake(request: Request, error: Exception) -> JSONResponse:  # outside of the middleware
    return JSONResponse({"error": "The server made a mistake; what it was stands in its log."}, 500, HEADERS)
