"""Makes docs/cli.md and the man page from the commands themselves: ``make docs``.

The texts are taken from the parsers and not from argparse's own help, which differs between
versions of Python.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from consumer.cli.app import DetachdApp
from consumer.cli.commands import GROUPS, Listed

EXIT_STATUS = (
    ("0", "it was done"),
    ("1", "it failed; the text says why"),
    ("2", "what was typed or configured cannot be used; the text says what is right"),
)
"""What every command has; some add their own, which their text says."""
LEFT_OUT = frozenset({"help", "complete"})
OF_CLIFF = frozenset({
    "help", "formatter", "columns", "noindent", "quote_mode", "max_width", "fit_width",
    "print_empty", "sort_columns", "sort_direction", "prefix",
})  # fmt: skip
THE_USER = "the user"
MOST_CHOICES = 12
Make = Callable[[], str]


def markdown() -> str:
    """Return docs/cli.md."""
    return "\n".join(_markdown())


def _markdown() -> Iterator[str]:
    yield "# The commands\n"
    yield (
        "Made by `make docs` from the commands. `detachd help COMMAND` shows the same, and the "
        "options for the form of the output (`-f json|csv|value|yaml`, `-c COLUMN`) where a "
        "command has them. Ids of cases, volumes and servers may be given by their beginning.\n"
    )
    yield "| exit status | |\n|---|---|"
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_STATUS)
    yield ""
    for group in GROUPS:
        commands = [listed for listed in group.commands if listed.name not in LEFT_OUT]
        if commands:
            yield f"## {group.title}\n"
        for listed in commands:
            yield from _command(listed)


def _command(listed: Listed) -> Iterator[str]:
    yield f"### detachd {listed.name}\n"
    yield "\n\n".join(_paragraphs(listed)) + "\n"
    if options := list(_options(listed)):
        yield "| | |\n|---|---|"
        yield from (f"| `{_cell(names)}` | {_cell(words)} |" for names, words in options)
        yield ""
    if listed.example:
        yield f"    {listed.example}\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _paragraphs(listed: Listed) -> list[str]:
    text = inspect.getdoc(listed.load()) or ""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def _options(listed: Listed) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a command as they are typed, each with its help."""
    command = listed.load()
    app = DetachdApp()
    parser = command(app, None).get_parser(f"detachd {listed.name}")
    for action in parser._actions:  # noqa: SLF001 - argparse shows them nowhere else
        # What cliff keeps for old scripts, such as --variable, it shows nobody.
        if action.dest not in OF_CLIFF and action.help != argparse.SUPPRESS:
            yield _typed(action), _help(action)


def _typed(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    value = value if isinstance(value, str) else action.dest.upper()
    value = f"{value}..." if action.nargs in ("+", "*") else value
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}".strip()


def _help(action: argparse.Action) -> str:
    shown = dict(vars(action))
    # Its default is whoever runs `make docs`.
    if action.dest == "actor":
        shown["default"] = THE_USER
    text = (action.help or "") % shown
    choices = [str(one) for one in action.choices or ()]
    listed = f": {', '.join(choices)}" if choices and action.metavar is not None else ""
    return " ".join((text + (listed if len(choices) <= MOST_CHOICES else "")).split())


# -- the man page ----------------------------------------------------------------------------------


def man() -> str:
    """Return docs/detachd.1, the manual."""
    return "\n".join(_man()) + "\n"


def _man() -> Iterator[str]:
    yield '.TH DETACHD 1 "" "detachd" "detachd"'
    yield ".SH NAME\ndetachd \\- find stuck volume attachments and release them when it is safe"
    yield ".SH SYNOPSIS\n.B detachd\n.I COMMAND\n.RI [ OPTIONS ]"
    for group in GROUPS:
        yield f".SH {_roff(group.title.upper())}"
        for listed in group.commands:
            yield f".SS detachd {_roff(listed.name)}"
            if listed.name in LEFT_OUT:
                yield _roff(f"{listed.summary}.")
                continue
            yield "\n.PP\n".join(_roff(part) for part in _paragraphs(listed))
            for names, words in _options(listed):
                yield f".TP\n.B {_roff(names)}\n{_roff(words)}"
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_STATUS:
        yield f".TP\n.B {code}\n{_roff(meaning)}"
    yield ".SH FILES\n.TP\n.B /etc/detachd/detachd.conf\nthe configuration"


def _roff(text: str) -> str:
    # A plain hyphen becomes a typographic one in some pagers, and cannot be copied then.
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)


def main(arguments: Sequence[str]) -> None:
    """Write the pages to these two paths."""
    page, manual = map(Path, arguments)
    page.write_text(markdown(), encoding="utf-8")
    manual.write_text(man(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
