"""Somebody who scrapes /metrics, often, and what one scrape takes."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request

_PROGRAM = """
import http.client, sys, time
host, rate = sys.argv[1], float(sys.argv[2])
due = time.monotonic()
while True:
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", "/metrics")
    if b"inspector_results_total" not in connection.getresponse().read():
        sys.exit("no metrics")
    connection.close()
    print(flush=True)
    due = max(due + 1 / rate, time.monotonic() - 1 / rate)
    time.sleep(max(0.0, due - time.monotonic()))
"""


class Scraper:
    """Asks for /metrics at a steady rate, from `with` to its end, in a process of its own that imports next to nothing.

    It is told where fewer were answered.
    """

    def __init__(self, address: str, rate: float) -> None:
        self._command = [sys.executable, "-S", "-c", _PROGRAM, address.removeprefix("http://"), str(rate)]
        self._rate = rate

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdout.readline()  # it is under way
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._started
        self._process.kill()
        answered = len(self._process.communicate()[0].splitlines()) / seconds
        if answered < 0.8 * self._rate:
            print(f"only {answered:.0f} of {self._rate:g} scrapes a second were answered")


def time_scrape(address: str) -> float:
    """Milliseconds until /metrics answers, after a second in which its text has become old."""
    time.sleep(1.0)
    started = time.monotonic()
    urllib.request.urlopen(f"{address}/metrics", timeout=5).read()  # noqa: S310
    return (time.monotonic() - started) * 1e3
