"""The subscriber and the sender that the documentation prints; tests/system/test_flow.py runs them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[1] / "docs/plc/examples.md").read_text(encoding="utf-8")


def test_subscriber_is_twenty_lines_of_valid_python_and_names_its_station() -> None:
    code, _ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    compile(code, "examples.md", "exec")
    assert len(code.strip().splitlines()) <= 20
    assert re.search(r'Subscriber\([^)]*station="[^"]+"', code)
