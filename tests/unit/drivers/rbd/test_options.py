"""The rbd driver's options: what cannot be used is refused in an operator's words."""

from __future__ import annotations

import pytest

from drivers.rbd.options import OPTS, Place, RbdOptions
from drivers.registry import parsed


def read(**changes: object) -> RbdOptions:
    """Read the options with these changes."""
    return RbdOptions.read(parsed(OPTS, changes))


def test_pools_and_namespaces_are_told_apart() -> None:
    """POOL and POOL/NAMESPACE -> places, each once, in their order."""
    assert read(pools="volumes, images/blue,volumes").pools == (
        Place("volumes"),
        Place("images", "blue"),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pools": ""}, "the option pools"),
        ({"pools": "volumes/"}, "the option pools"),
        ({"pools": "a/b/c"}, "the option pools"),
        ({"conf": "ceph.conf"}, "the option conf must be an absolute path"),
        ({"python": "python3"}, "the option python must be an absolute path"),
        ({"user": "client.detachd"}, "without 'client.'"),
        ({"user": " "}, "the option user"),
        ({"volume_name_template": "volume"}, "must have %s once"),
        ({"volume_name_template": "%s-%d"}, "must have %s once"),
        ({"volume_name_template": "volumes/%s"}, "goes without the pool"),
    ],
)
def test_what_cannot_be_used_is_refused(changes: dict[str, object], words: str) -> None:
    """A value that makes no sense -> ValueError that names the option."""
    with pytest.raises(ValueError, match=words):
        read(**changes)
