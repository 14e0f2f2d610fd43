"""What to do about a SQLite ledger whose file cannot be opened: SQLite itself says only that."""

from __future__ import annotations

import os
from pathlib import Path

_NOT_OPENED = "unable to open database file"
_NOT_WRITTEN = "attempt to write a readonly database"
_REMEDY = "[ledger] connection names it"


def explained(words: str, file: str | None) -> str:
    """Return why the file cannot be used and what to do; "" where the words are about another.

    ``words`` are SQLite's. Blocks on the file system only.
    """
    if file is None or not (_NOT_OPENED in words or _NOT_WRITTEN in words):
        return ""
    path = Path(file).absolute()
    if _is_directory(path):
        return f"{path} is a directory; name a file in it ({_REMEDY})"
    if not _is_directory(path.parent):
        return (
            f"there is no directory {path.parent}, or the user {os.geteuid()} may not enter it; "
            f"make it, owned by the user that detachd runs as ({_REMEDY})"
        )
    return (
        f"the user {os.geteuid()} has to be allowed to write {path}, and files beside it in "
        f"{path.parent}; run detachd's commands as the user that the service runs as"
    )


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where it may not look
