"""Many clients at once against a running server: is each answered, with what is in its own photograph, and how fast?

    python -m ror_jax.serve --model=models/quickstart &
    python -m tools.load PHOTOGRAPH_OR_FOLDER ... --clients 50 --requests 20

First photographs are sent alone, as many as there are clients and requests of one. What the server says then is what it
must say to all who send them later, but for rounding: a network that reads several faces at once adds in another order.
Needs nothing but Python.
"""

import argparse
import http.client
import json
import math
import statistics
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 where a request was lost or got another photograph's answer."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, nargs="+", metavar="PHOTOGRAPH_OR_FOLDER")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server; default %(default)s")
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="default %(default)s")
    parser.add_argument("--requests", type=int, default=20, metavar="N", help="of each client; default %(default)s")
    options = parser.parse_args(arguments)
    paths = [file for path in options.photographs for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    try:
        report = run(options.url, paths, options.clients, options.requests)
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.exit(f"error: {options.url}: {error}; is a server there, and are these photographs?")
    print(
        f"{options.clients} clients, {options.requests} requests each:"
        f" {report['answered']} answered in {report['seconds']:.1f} s, {report['wrong']} of them wrongly;"
        f" failed: {report['failed'] or 'none'}\n"
        f"{report['answered'] / report['seconds']:.1f} photographs/s; latency: median {report['p50']:.3f} s,"
        f" 95 % {report['p95']:.3f} s, longest {report['max']:.3f} s (one client alone: median {report['alone']:.3f} s)"
    )
    return int(bool(report["wrong"] or report["failed"]))


def run(url: str, paths: Sequence[Path], clients: int, requests: int) -> dict:
    """What came back.

    Returns:
      How many requests were `answered`, how many of these `wrong`ly; those that `failed`, counted by reason; the
      `seconds` that all took; the latencies' median `p50`, `p95` and `max`, and the median of one client `alone`.
    """
    server = urlsplit(url).netloc
    photographs = [path.read_bytes() for path in paths[: clients + requests]]
    alone, latencies, failed, wrong = [], [], Counter(), Counter()
    connection = http.client.HTTPConnection(server, timeout=60)
    expected = [_timed(connection, data, "alone", alone) for data in photographs]

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(server, timeout=60)
        for request in range(requests):
            at, name = (number + request) % len(photographs), f"client {number}, request {request}"
            try:
                answer = _timed(connection, photographs[at], name, latencies)
                wrong[not same(answer, expected[at] | {"photograph": name})] += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                failed[str(error)] += 1
                connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    latencies.sort()
    return {
        "answered": len(latencies),
        "wrong": wrong[True],
        "failed": dict(failed),
        "seconds": seconds,
        "p50": statistics.median(latencies),
        "p95": latencies[math.ceil(0.95 * len(latencies)) - 1],
        "max": latencies[-1],
        "alone": statistics.median(alone),
    }


def same(answer, expected) -> bool:
    """Whether the two agree, numbers to the rounding of what the server prints: 0.1 where they exceed 1, else 0.001."""
    if isinstance(expected, dict):
        return answer.keys() == expected.keys() and all(same(answer[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(map(same, answer, expected))
    if isinstance(expected, float):
        return abs(answer - expected) <= (0.11 if max(answer, expected) > 1 else 0.0011)
    return answer == expected


def _timed(connection: http.client.HTTPConnection, data: bytes, name: str, latencies: list[float]) -> dict:
    """The server's answer to one photograph; raises ValueError where it is none."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    start = time.perf_counter()
    connection.request("POST", "/predict", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise ValueError(f"{response.status}: {answer['error']}")
    latencies.append(time.perf_counter() - start)
    return answer["photographs"][0]


if __name__ == "__main__":
    sys.exit(main())
