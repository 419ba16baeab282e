"""The structure of JPEG files (ITU-T T.81, annex B), without decoding them."""

import re

SOI = b"\xff\xd8"
_EOI, _SOS, _FIRST_WITH_LENGTH = 0xD9, 0xDA, 0xC0
# Within the coded pixels FF 00 is a byte and FF D0 to FF D7 are restarts; FF may be repeated before a marker.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd8\xff])")


def count_scans(data: bytes) -> int:
    """Returns how many scans a decoder would find in a JPEG file, each of which goes over all the pixels.

    What is behind the end of the image, such as the video of a phone's photograph, is not looked at, and neither is
    what a segment holds, such as a preview.
    """
    scans, place = 0, len(SOI)
    while (marker := _MARKER.search(data, place)) and marker[1][0] != _EOI:
        code, place = marker[1][0], marker.end()
        scans += code == _SOS
        if code >= _FIRST_WITH_LENGTH:  # decoders resume right behind the others
            place += max(2, int.from_bytes(data[place : place + 2]))
    return scans
