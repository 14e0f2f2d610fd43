"""Whether Cinder and Nova are of one region and one cloud, as far as the service catalog tells.

With several regions in the catalog and no ``region_name``, keystoneauth takes the first endpoint. A
Cinder of one region denies every volume of the other, and a Nova every server. So such a
configuration is refused: the service does not start, and no call is made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What is known of one API's endpoint; None where the catalog does not tell.

    ``regions`` are all regions for which the catalog has the service, ``configured`` is the
    ``region_name`` of the section, ``keystone`` the URL of the Keystone that gave the catalog.
    ``roles`` are those of the user, by its token; none where the token does not tell.
    """

    section: str
    keystone: str | None
    region: str | None
    regions: frozenset[str]
    configured: str | None
    roles: frozenset[str] = frozenset()

    @property
    def ambiguity(self) -> str | None:
        """A sentence where the catalog has several regions and none is configured, else None."""
        return ambiguity(self.section, self.configured, self.regions)


def ambiguity(section: str, configured: str | None, regions: Collection[str]) -> str | None:
    """Return a sentence where there are several regions and none is configured, else None."""
    first, *others = sorted(regions) or [""]
    if configured is not None or not others:
        return None
    return (
        f"[{section}] has no region_name, and the catalog has the regions "
        f"{', '.join([first, *others])}: "
        f"set region_name in [{section}] to the region whose notifications detachd consumes"
    )


def described(cinder: Place, nova: Place) -> str:
    """Return in words where both are."""
    regions = [f"{p.section} of region {p.region or 'unknown'}" for p in (cinder, nova)]
    return " and ".join(regions)


def different_regions(cinder: Place, nova: Place) -> str | None:
    """Return a sentence where the catalog says that both are of different regions, else None."""
    # What the catalog does not tell is not claimed.
    if None in (cinder.region, nova.region) or cinder.region == nova.region:
        return None
    return (
        f"[cinder] is asked in region {cinder.region} and [nova] in region {nova.region}: "
        "volumes and servers of one cloud are of one region; check region_name of both"
    )


def doubts(cinder: Place, nova: Place) -> Iterator[str]:
    """Yield a sentence for each reason to doubt that both are of the same region and cloud."""
    if said := different_regions(cinder, nova):
        yield said
    if None not in (cinder.keystone, nova.keystone) and cinder.keystone != nova.keystone:
        yield (
            f"[cinder] uses the Keystone at {cinder.keystone} and [nova] the one at "
            f"{nova.keystone}: they may be of different clouds; check auth_url of both"
        )
