"""Checks configuration files before oslo.config reads them.

1. An unknown name is an error, which suggests the most similar name. oslo.config ignores it: with a
   typing error in ``mode``, its default would be used.
2. No message contains a line of the file, because it may contain a password.
3. Every problem is told in one run.
"""

from __future__ import annotations

import codecs
import difflib
import functools
import importlib.metadata
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg

from consumer.errors import ConfigurationError
from consumer.settings import DEFAULT_FILE

LIBRARIES = ("oslo.log", "oslo.messaging")

# Error texts of Python, which oslo.config passes on, and their meaning.
NO_NUMBER = {
    "invalid literal for int() with base 10: ": "a whole number",
    "could not convert string to float: ": "a number",
}

DOLLAR = "has a $, which refers to another option, and there is none; write $$ for a plain $"

Sections = Mapping[str, Mapping[str, Any]]
Declared = Mapping[str, Sequence[cfg.Opt]]


def default_files() -> list[Path]:
    """Return the default file. Raises ConfigurationError if it does not exist."""
    if _is_missing(DEFAULT_FILE):
        raise ConfigurationError(
            [f"there is no {DEFAULT_FILE}; create it, or name another file with --config-file"]
        )
    return [DEFAULT_FILE]


def _is_missing(path: Path) -> bool:
    """Tell whether the file surely does not exist; other errors appear when it is read."""
    try:
        path.stat()  # from Python 3.14 on, exists() is False for every error
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def raise_if(found: Iterable[str]) -> None:
    """Raise ConfigurationError with these sentences if there are any."""
    if sentences := tuple(found):
        raise ConfigurationError(sentences)


def parse(path: Path) -> Sections:
    """Return the sections of one file. Raises ConfigurationError if it cannot be read."""
    sections: dict[str, dict[str, Any]] = {}
    try:
        # oslo.config's own parser, so that what we check is what it will read.
        cfg.ConfigParser(str(path), sections).parse()
    except cfg.ParseError as error:
        problem = f"{path}, line {error.lineno}: {_marked(path, error) or error.msg}"
        # ``from None``: the error quotes the line, which may be a password.
        raise ConfigurationError([problem]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path} is not a text file: {error.reason}"]) from None
    except OSError as error:
        raise ConfigurationError([f"{path} cannot be read: {error.strerror}"]) from None
    return sections


def _marked(path: Path, error: cfg.ParseError) -> str | None:
    """Return why a file that begins with a byte order mark does not parse."""
    if error.lineno != 1 or not path.read_bytes().startswith(codecs.BOM_UTF8):
        return None
    return "it begins with a byte order mark (BOM), which an editor put there; save it without"


@functools.cache
def library_options() -> Declared:
    """Return the options of oslo.log and oslo.messaging by section."""
    declared: dict[str, list[cfg.Opt]] = {}
    for point in importlib.metadata.entry_points(group="oslo.config.opts"):
        # Only what detachd reads: to load all would import every service that is installed here.
        if point.name in LIBRARIES:
            for group, opts in point.load()():
                declared.setdefault(_section(group), []).extend(opts)
    return declared


def _section(group: cfg.OptGroup | str | None) -> str:
    return group if isinstance(group, str) else group.name if group else "DEFAULT"


def repeated(path: Path, sections: Sections, declared: Declared) -> Iterator[str]:
    """Yield a sentence for every option that a file sets more than once, and that has one value.

    The last one would count, and nobody would be told. A section may be there twice, as where an
    operator writes below the sample: only what it sets counts.
    """
    multi = {(section, opt.dest) for section, opts in declared.items() for opt in opts if opt.multi}
    for section, assignments in sections.items():
        for name, values in assignments.items():
            if len(values) > 1 and (section, name) not in multi:
                yield f"{path}: [{section}] {name} is set {len(values)} times; keep one of them"


def unknown_names(path: Path, sections: Sections, declared: Declared) -> Iterator[str]:
    """Yield a sentence for every unknown section and every unknown option."""
    names = _names(declared)
    for section, assignments in sections.items():
        # oslo.config accepts section names in upper and lower case, except DEFAULT.
        known = names.get(section, names.get(section.lower()))
        if known is None:
            near = _nearest(section, names)
            yield f"{path}: there is no section [{section}]" + _hint(near and f"[{near}]")
            continue
        for name in sorted(assignments.keys() - known):
            yield f"{path}: [{section}] " + _unknown_option(name, known)


def unknown_in_environment(variables: Iterable[str], declared: Declared) -> Iterator[str]:
    """Yield a sentence for each variable that is written as oslo.config reads it, for no option.

    It may also be that of another service, which a container has in its environment too. Pure.
    """
    names = _names(declared)
    known = {f"OS_{section}__{name}".upper() for section in names for name in names[section]}
    for variable in sorted(set(variables) - known):
        # OS_AUTH_URL and the like are of command-line clients, and have one underscore.
        if variable.startswith("OS_") and "__" in variable:
            yield f"{variable} in the environment names no option" + _hint(
                _nearest(variable, known)
            )


def _unknown_option(name: str, known: Iterable[str]) -> str:
    # Without "=", the part before the first colon is parsed as the name: it may be a secret.
    first, space, _ = name.partition(" ")
    if space:
        return f"has a line that begins with {first!r} and has no '='"
    # With a hyphen is how options are written on a command line.
    return f"has no option {name}" + _hint(_nearest(name.replace("-", "_"), known))


def _hint(near: str | None) -> str:
    return f"; did you mean {near}?" if near else ""


def _names(declared: Declared) -> Mapping[str, frozenset[str]]:
    """Return the option names of each section, deprecated names included."""
    names: dict[str, set[str]] = {}
    for section, opts in declared.items():
        for opt in opts:
            names.setdefault(section, set()).add(opt.dest)
            for old in opt.deprecated_opts:
                names.setdefault(old.group or section, set()).add(old.name or opt.dest)
    return {section: frozenset(known) for section, known in names.items()}


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def bad_values(conf: cfg.ConfigOpts, declared: Declared) -> Iterator[str]:
    """Yield a sentence for every option with an invalid value."""
    for section, opts in declared.items():
        group = conf if section == "DEFAULT" else conf[section]
        for opt in opts:
            try:
                # Each is read, as oslo.config parses a value only then.
                value = group[opt.dest]
            except cfg.ConfigSourceValueError as error:
                yield f"[{section}] {opt.dest}: {_reason(error)}"
            except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
                # Its text would have what stands behind the $, which may be a part of a password.
                yield f"[{section}] {opt.dest}: {DOLLAR}"
            else:
                if value is None and opt.default is not None:
                    yield f"[{section}] {opt.dest}: has no value; set one or remove the line"
                elif isinstance(value, float) and not math.isfinite(value):
                    # With NaN every comparison is false: the other checks would not find it.
                    yield f"[{section}] {opt.dest}: {value} is not a finite number"


def _reason(error: cfg.ConfigSourceValueError) -> str:
    reason = str(error).partition("is not valid: ")[2] or str(error)
    for prefix, kind in NO_NUMBER.items():
        if reason.startswith(prefix):
            return f"{reason.removeprefix(prefix)} is not {kind}"
    return reason


def read(paths: Sequence[Path], declared: Declared) -> cfg.ConfigOpts:
    """Return a ConfigOpts over ``paths`` with all of ``declared`` registered as plain options.

    Some libraries also declare options for the command line. With those, an invalid value in a file
    would end the process with a usage message.
    """
    conf = cfg.ConfigOpts()
    for section, opts in declared.items():
        conf.register_opts(list(opts), group=None if section == "DEFAULT" else section)
    conf(arguments(paths), project="detachd", default_config_files=[], default_config_dirs=[])
    return conf


def arguments(paths: Sequence[Path]) -> list[str]:
    """Return the command line that makes oslo.config read ``paths``."""
    return [argument for path in paths for argument in ("--config-file", str(path))]
