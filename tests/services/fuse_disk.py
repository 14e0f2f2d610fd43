"""A disk that can stop answering: a file behind FUSE, served by a process that can be frozen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.services.service import PrivateService, ServiceMissingError, executable

SIZE = 16 * 1024 * 1024


class FuseDisk(PrivateService):
    """``qemu-storage-daemon`` exports a file as another file; ``pause`` leaves its I/O hanging.

    Resume it before whoever has the file open is stopped: a process that waits for a frozen FUSE
    server cannot even be killed.
    """

    name = "fuse-disk"
    last_words = "umount -l disk 2> /dev/null || :"

    def __init__(self) -> None:
        package = "qemu-system-common"
        self._server = executable("qemu-storage-daemon", package, "qemu-storage-daemon")
        if not os.access("/dev/fuse", os.R_OK | os.W_OK) and not shutil.which("fusermount3"):
            raise ServiceMissingError("FUSE (/dev/fuse or fusermount3)", "fuse3")

    @property
    def url(self) -> str:
        """The path of the disk."""
        return str(self.disk)

    @property
    def disk(self) -> Path:
        """The file whose I/O can be made to hang."""
        return self.directory / "disk"

    @property
    def content(self) -> Path:
        """The file behind it, which can always be read."""
        return self.directory / "content"

    def _prepare(self) -> None:
        self.content.touch()
        os.truncate(self.content, SIZE)
        self.disk.touch()

    def _launch(self) -> None:
        self._spawn(
            self._server,
            *("--blockdev", f"driver=file,node-name=content,filename={self.content}"),
            "--export",
            f"type=fuse,id=disk,node-name=content,mountpoint={self.disk},writable=on",
        )

    def _answers(self) -> bool:
        return self.disk.stat().st_dev != self.directory.stat().st_dev
