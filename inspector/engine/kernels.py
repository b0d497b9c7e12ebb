"""The compiler's own cache of kernels, whole after a power cut.

What torch.compile and Triton write there they rename into place without waiting for the disk: a kill leaves each file
whole or absent, a power cut may leave it torn, under its own name, and it is loaded into the process unread. So all
that lies there is put on record once it is on the disk, and the first start of a machine's next run compares.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import uuid
from pathlib import Path

from inspector.errors import InspectorError
from inspector.files import compute_sha256, write_whole

logger = logging.getLogger(__name__)

_RECORD = "sha256.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class KernelCache:
    """A folder that the compiler fills."""

    def __init__(self, folder: Path, boot_id: Path = _BOOT_ID) -> None:
        """`boot_id`: a file whose content is another after each start of the machine."""
        self._folder = folder
        self._record = folder.with_name(f"{folder.name}-{_RECORD}")
        try:
            self._boot = boot_id.read_text(encoding="ascii").strip()
        except OSError:  # hidden by a sandbox: then each start of the process compares
            self._boot = uuid.uuid4().hex

    def clear_torn(self) -> None:
        """Delete all of it where the machine was started since it was put on record and any file is not as it was.

        Files that were never put on record count as torn. It is compiled again then, which takes minutes.

        Raises:
            OSError: it cannot be deleted.
        """
        known = self._read_record()
        if known.get("boot") == self._boot or not self._folder.is_dir():
            return
        if known.get("files") != self._compute_sums():
            logger.warning(
                "%s: compiled kernels are not what was written before the machine was started again: deleted, the "
                "recipes are compiled once more",
                self._folder,
            )
            shutil.rmtree(self._folder)
        self.put_on_record()

    def put_on_record(self) -> None:
        """Once all that lies there is on the disk."""
        sums = self._compute_sums(sync=True)
        with contextlib.suppress(InspectorError):  # costs a compilation after the next start of the machine
            write_whole(self._record, json.dumps({"boot": self._boot, "files": sums}).encode())

    def _read_record(self) -> dict[str, object]:
        try:
            content = json.loads(self._record.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _compute_sums(self, *, sync: bool = False) -> dict[str, str]:
        """By path within the folder; what another process takes away meanwhile is left out."""
        sums = {}
        for path in sorted(self._folder.rglob("*")):
            with contextlib.suppress(OSError):
                if path.is_file():
                    if sync:
                        _sync(path)
                    sums[str(path.relative_to(self._folder))] = compute_sha256(path)
        return sums


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
