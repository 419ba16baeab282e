"""The files of a request, received into memory and stopped where they become too large. Nothing goes to disk."""

import logging

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

MAX_FILE = 20_000_000  # bytes
MAX_FILES = 16  # of a request
MAX_REQUEST = 64_000_000  # bytes
MAX_PARTS = 100  # of a form, with those that are no files
FIELD = "files"  # of the form

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it would log bytes of what it cannot read

SCHEMA = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MAX_FILES}
FORM = {  # for OpenAPI
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: SCHEMA}}}
        },
    }
}


async def receive_files(request: Request) -> list[tuple[str, bytes]]:
    """Name and content of each file in the field `FIELD` of a form, multipart/form-data (RFC 7578).

    Raises:
      HTTPException: it is no such form, has no files, or is larger than the limits. `request.state.received` says
        whether it came to its end before that.
    """
    request.state.received = False
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise HTTPException(415, f"Send photographs as files in the field {FIELD!r} of a form, multipart/form-data.")
    if int(request.headers.get("content-length", 0)) > MAX_REQUEST:
        raise _too_large()
    form, size = _Form(), 0
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        while not request.state.received:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "The request broke off.")
            request.state.received = not message.get("more_body")
            body = message.get("body", b"")
            size += len(body)
            if size > MAX_REQUEST:
                raise _too_large()
            parser.write(body)
    except (FormParserError, UnicodeError) as error:
        raise HTTPException(400, f"The form cannot be read: {error}.") from error
    if not form.ended:
        raise HTTPException(400, "The form is cut off: its last boundary is missing.")
    if not form.files:
        raise HTTPException(400, f"There are no files: send photographs in the field {FIELD!r} of the form.")
    return [(name, bytes(content)) for name, content in form.files]


def _too_large() -> HTTPException:
    return HTTPException(
        413, f"The request is larger than {MAX_REQUEST // 10**6} MB: send fewer or smaller photographs."
    )


class _Form:
    """What a form's parser calls, piece by piece."""

    def __init__(self):
        self.files: list[tuple[str, bytearray]] = []
        self.ended, self._parts = False, 0
        self._name = self._value = b""  # of a header, so far
        self._disposition = b""
        self._content: bytearray | None = None  # of a file that is wanted

    def callbacks(self) -> dict:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add_content,
            "on_end": self._end,
        }

    def _begin(self):
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise HTTPException(413, f"The form has more than {MAX_PARTS} parts: send photographs alone.")
        self._disposition, self._content = b"", None

    def _add_name(self, data: bytes, start: int, end: int):
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int):
        self._value += data[start:end]

    def _end_header(self):
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _begin_content(self):
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode() or options.get(b"filename") == b"":  # "": none was chosen
            return
        if len(self.files) == MAX_FILES:
            raise HTTPException(413, f"There are more than {MAX_FILES} files: send fewer photographs at once.")
        name = options.get(b"filename", b"").decode("utf-8", "replace") or f"photograph {len(self.files) + 1}"
        self._content = bytearray()
        self.files.append((name, self._content))

    def _add_content(self, data: bytes, start: int, end: int):
        if self._content is None:
            return
        self._content += data[start:end]
        if len(self._content) > MAX_FILE:
            raise HTTPException(413, f"{self.files[-1][0]}: the file is larger than {MAX_FILE // 10**6} MB.")

    def _end(self):
        self.ended = True
