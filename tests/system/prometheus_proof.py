"""A real Prometheus with the repository's rules, and what Grafana would ask it: every query of every panel."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from inspector.testing.station_process import free_port

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "prometheus"
VARIABLES = {"$__rate_interval": "5s", "$__range": "1h", "$instance": ".*", "$camera": ".*"}
_SELECTOR = re.compile(r"\b((?:inspector|process)_\w+|up)\b(?!=)(\{[^}]*\})?")

Answer = list[dict[str, Any]]


class Prometheus:
    """The server, from `with` to its end; it scrapes and evaluates every second."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        """Make it; `targets` are the stations' ports by their instance."""
        self._folder = folder
        self._port = free_port()
        rules = re.sub(r"interval: \S+", "interval: 1s", (CONFIGS / "rules.yml").read_text("utf-8"))
        (folder / "rules.yml").write_text(rules, encoding="utf-8")
        config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def __enter__(self) -> Prometheus:
        """Start; does not wait."""
        command = [
            "prometheus",
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> Answer:
        """Now. An expression that it refuses raises an AssertionError which says why."""
        return self._ask("query", query=expression)["result"]

    def query_range(self, expression: str, start: float, end: float) -> Answer:
        """Each second between two instants (wall clock, seconds)."""
        return self._ask("query_range", query=expression, start=start, end=end, step="1s")["result"]

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their state."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def wait_for(self, expression: str, timeout_s: float = 30.0) -> None:
        """Until the expression has an answer."""
        limit = time.monotonic() + timeout_s
        while True:
            try:
                if self.query(expression):
                    return
            except OSError:  # it is not up yet
                pass
            assert time.monotonic() < limit, f"no answer to {expression}"
            time.sleep(0.3)

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it is not up yet
                raise
            with error:
                raise AssertionError(f"{arguments}: {json.load(error)['error']}") from None


def substitute(expression: str) -> str:
    """As Grafana does before it asks."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def find_selectors(expression: str) -> Iterator[str]:
    """The series that an expression looks at."""
    for name, labels in _SELECTOR.findall(expression):
        yield name + labels
