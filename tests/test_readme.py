"""What the README prints must run."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_subscriber_is_twenty_lines_of_valid_python_and_names_its_station() -> None:
    code, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(code, "README.md", "exec")
    assert len(code.strip().splitlines()) <= 20
    assert re.search(r'Subscriber\([^)]*station="[^"]+"', code)
