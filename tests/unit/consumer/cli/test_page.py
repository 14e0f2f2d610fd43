"""docs/cli.md and the man page, which are made from the commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from consumer.cli import page
from consumer.cli.commands import every

DOCS = Path(__file__).parents[4] / "docs"


@pytest.mark.parametrize(("file", "make"), [("cli.md", page.markdown), ("detachd.1", page.man)])
def test_page_is_current(file: str, make: page.Make) -> None:
    """A command changed and `make docs` was not run -> the difference."""
    assert (DOCS / file).read_text(encoding="utf-8") == make()


def test_every_command_and_option_is_on_the_page() -> None:
    """A command -> its heading, and each option of its own parser, help and formats apart."""
    text = page.markdown()
    for listed in every():
        if listed.name not in page.LEFT_OUT:
            assert f"### detachd {listed.name}\n" in text
            assert all(f"`{names.replace('|', chr(92) + '|')}`" in text
                       for names, _ in page._options(listed))  # fmt: skip


@pytest.mark.parametrize("make", [page.markdown, page.man])
def test_what_a_parser_hides_is_not_on_the_page(make: page.Make) -> None:
    """An option that cliff keeps for old scripts, such as --variable -> on neither page."""
    assert "SUPPRESS" not in make()


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_man_page_is_read_without_a_warning() -> None:
    """Man --warnings -> the text, and nothing on stderr."""
    read = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(DOCS / "detachd.1")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (read.returncode, read.stderr) == (0, "")
    assert "case approve" in read.stdout
