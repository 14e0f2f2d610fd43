"""What every storage driver must keep, as a pytest class that a driver's author subclasses.

    from drivers.conformance import Ground, StorageDriverConformance

    class ArrayGround(Ground):
        ...                                   # what the suite needs to do to an array of its own

    class TestArrayDriver(StorageDriverConformance):
        @pytest.fixture
        def ground(self, tmp_path):
            with ArrayGround(tmp_path) as ground:
                yield ground

Each test is a clause: a situation -> the consequence that the service relies on. One that fails
says what the driver did and why that is dangerous. One that the backend cannot show is skipped with
the reason that the ground gives. Needs ``pip install 'detachd[conformance]'``.
"""

from drivers.conformance.failing import CrowdingClauses, FailingClauses
from drivers.conformance.fencing import FencingClauses
from drivers.conformance.ground import Ground
from drivers.conformance.listing import ListingClauses
from drivers.conformance.releasing import ReleasingClauses, SparingClauses
from drivers.conformance.seeing import DeclaringClauses, SeeingClauses

__all__ = ["Ground", "StorageDriverConformance"]


class StorageDriverConformance(
    SeeingClauses,
    ListingClauses,
    ReleasingClauses,
    SparingClauses,
    FencingClauses,
    FailingClauses,
    CrowdingClauses,
    DeclaringClauses,
):
    """All clauses. A subclass overrides the fixture ``ground``, and the two times if it has to."""
