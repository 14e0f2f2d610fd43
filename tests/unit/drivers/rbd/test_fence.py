"""Who is fenced: the learned client while it is as it was, and nobody else, ever."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from drivers.base import ClientInstance
from drivers.errors import PermanentError
from drivers.rbd.cluster import OwnedLock
from drivers.rbd.fence import (
    AnotherClientError,
    ChangedClientError,
    Fence,
    ForeignLockError,
    KernelClientError,
    NoNonceError,
    NotLearnedError,
    Released,
    Unlock,
    decide,
    other_images,
    what_is_left,
)
from drivers.rbd.image import KERNEL_COOKIES, Image, Lock, Sighting, Watcher
from drivers.rbd.options import Place

A, B = "192.0.2.5:0/11", "192.0.2.6:0/22"
VOLUMES = Place("volumes")
LEARNED = ClientInstance(A, "client.1", 140, datetime(2026, 11, 28, 11, tzinfo=UTC))
OURS, THEIRS = Watcher(A, "client.1", 140), Watcher(B, "client.2", 150)
OUR_LOCK, THEIR_LOCK = Lock("client.1", "auto 140", A), Lock("client.2", "auto 150", B)
OWNED = OwnedLock(VOLUMES, "10", "client.1", "auto 140")
UNTIL = "2029-11-27T11:00:00+0000"


def seen(*there: Watcher | Lock, fenced: tuple[str, ...] = (), lasting: bool = True) -> Sighting:
    """Return a look at one image that these watch or have locked; fenced for long, or not."""
    watchers = tuple(w for w in there if isinstance(w, Watcher))
    locks = tuple(k for k in there if isinstance(k, Lock))
    image = Image(VOLUMES, "volume-1", "10", watchers, locks)
    fences = dict.fromkeys(fenced, UNTIL)
    return Sighting("f", (image,), (), fences, frozenset(fenced) if lasting else frozenset())


@pytest.mark.parametrize("learned", [LEARNED, None])
def test_nobody_is_released(learned: ClientInstance | None) -> None:
    """No watcher and no lock -> released, whoever was learned."""
    assert decide(seen(), learned) == Released()


@pytest.mark.parametrize(
    "there",
    [
        (OURS, OUR_LOCK),
        (OURS, OUR_LOCK, THEIRS),
        (OURS, dataclasses.replace(OURS, cookie=141), OUR_LOCK),
        (OUR_LOCK,),
        (OUR_LOCK, THEIRS),
    ],
)
def test_learned_client_is_fenced_and_its_own_lock_removed(
    there: tuple[Watcher | Lock, ...],
) -> None:
    """The learned client watches, or left its lock -> that address and lock, others or not."""
    assert decide(seen(*there), LEARNED) == Fence(A, (OWNED,))


def test_lock_of_another_is_left_to_it() -> None:
    """The learned client watches, and another one has the lock -> only the first is fenced."""
    assert decide(seen(OURS, THEIRS, THEIR_LOCK), LEARNED) == Fence(A, ())


def test_client_that_is_fenced_and_listed_still_is_fenced_anew() -> None:
    """A fence was made and the watch is still listed -> the same once more; it does no harm."""
    assert decide(seen(OURS, OUR_LOCK, fenced=(A,)), LEARNED) == Fence(A, (OWNED,))


@pytest.mark.parametrize(
    ("there", "learned", "error"),
    [
        ((OURS,), None, NotLearnedError),
        ((OUR_LOCK,), None, NotLearnedError),
        ((THEIRS,), LEARNED, AnotherClientError),
        ((THEIR_LOCK,), LEARNED, AnotherClientError),
        # the same host with a new client: the number, or the nonce, is another
        ((Watcher(A, "client.9", 140),), LEARNED, AnotherClientError),
        ((Watcher("192.0.2.5:0/12", "client.1", 140),), LEARNED, AnotherClientError),
        ((Watcher("192.0.2.5:1/11", "client.1", 140),), LEARNED, AnotherClientError),
        # the same client with a new session, or with a lock of a session that nobody learned
        ((dataclasses.replace(OURS, cookie=141),), LEARNED, ChangedClientError),
        ((Lock("client.1", "auto 141", A),), LEARNED, ChangedClientError),
        ((OURS, Lock("client.1", "kubelet_lock_magic_host", A)), LEARNED, ForeignLockError),
    ],
)
def test_anybody_else_is_refused(
    there: tuple[Watcher | Lock, ...], learned: ClientInstance | None, error: type[PermanentError]
) -> None:
    """Whoever is there is not the learned client as it was -> refused, and nothing is done."""
    with pytest.raises(error, match="Refused, nothing done"):
        decide(seen(*there), learned)


def test_refusal_names_who_is_there_and_who_was_learned() -> None:
    """Another client is there -> the text has both, and when ours was seen: the evidence."""
    with pytest.raises(AnotherClientError) as raised:
        decide(seen(THEIRS), LEARNED)
    for words in ("client.2 at 192.0.2.6:0/22", "client.1 at 192.0.2.5:0/11", "2026-11-28T11:00"):
        assert words in str(raised.value)


@pytest.mark.parametrize("address", ["192.0.2.5:0/0", "192.0.2.5"])
def test_whole_host_is_never_fenced(address: str) -> None:
    """A learned address without a nonce -> refused."""
    learned = dataclasses.replace(LEARNED, address=address)
    with pytest.raises(NoNonceError):
        decide(seen(dataclasses.replace(OURS, address=address)), learned)


@pytest.mark.parametrize("cookie", [KERNEL_COOKIES, KERNEL_COOKIES + 7])
@pytest.mark.parametrize("there", ["watch", "lock"])
def test_kernel_client_is_refused(cookie: int, there: str) -> None:
    """A kernel's client, which has every image of its host -> refused, also by its mere lock."""
    learned = dataclasses.replace(LEARNED, cookie=cookie)
    left = (
        Watcher(A, "client.1", cookie)
        if there == "watch"
        else Lock("client.1", f"auto {cookie}", A)
    )
    with pytest.raises(KernelClientError):
        decide(seen(left), learned)


@pytest.mark.parametrize("learned", [LEARNED, None])
def test_spent_lock_is_removed(learned: ClientInstance | None) -> None:
    """Nobody watches, and the owner of the lock is fenced -> the lock goes, without a fence."""
    assert decide(seen(OUR_LOCK, fenced=(A,)), learned) == Unlock((OWNED,))


def test_spent_lock_that_is_not_librbd_s_stays() -> None:
    """A fenced client's lock by hand -> it is somebody's sign, and stays; nobody can write."""
    by_hand = Lock("client.1", "kubelet_lock_magic_host", A)
    assert decide(seen(by_hand, fenced=(A,)), None) == Released()


def test_fenced_client_is_released_whoever_came_after_it() -> None:
    """Ours is fenced and gone, another one has the image -> released; theirs is untouched."""
    assert decide(seen(THEIRS, THEIR_LOCK, fenced=(A,)), LEARNED) == Released()
    assert decide(seen(THEIRS, OUR_LOCK, fenced=(A,)), LEARNED) == Unlock((OWNED,))


def test_a_fence_that_ends_soon_releases_nobody() -> None:
    """Somebody fenced it for an hour -> the learned one is fenced, with a record; others refused.

    A process that was stopped meanwhile writes again after that hour.
    """
    soon = seen(OUR_LOCK, fenced=(A,), lasting=False)
    assert decide(soon, LEARNED) == Fence(A, (OWNED,))
    with pytest.raises(NotLearnedError):
        decide(soon, None)
    with pytest.raises(AnotherClientError):
        decide(seen(THEIRS, fenced=(A,), lasting=False), LEARNED)


def test_fence_of_another_client_releases_nobody() -> None:
    """Another client of the host is fenced -> whoever has the image is a stranger still."""
    with pytest.raises(AnotherClientError):
        decide(seen(THEIRS, fenced=("192.0.2.5:0/12", "192.0.2.5:0/0")), LEARNED)


def test_other_images_are_those_of_this_client_alone() -> None:
    """A client has other images open, or locked -> counted; another of its host is not."""

    def image(number: str, *watchers: Watcher, locks: tuple[Lock, ...] = ()) -> Image:
        return Image(VOLUMES, f"volume-{number}", number, watchers, locks)

    everything = Sighting(
        "f",
        (
            image("10", OURS),
            image("11", OURS, THEIRS),
            image("12", Watcher("192.0.2.5:0/12", "client.7", 1)),
            image("13", locks=(OUR_LOCK,)),
            image("14"),
            dataclasses.replace(image("10", OURS), place=Place("images")),
        ),
        (),
        {},
        frozenset(),
    )
    assert other_images(everything, seen(OURS), A) == (
        "volumes/volume-11",
        "volumes/volume-13",
        "images/volume-10",
    )


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (seen(), "is not fenced"),
        (seen(OURS, fenced=(A,)), "is still listed"),
        (seen(OUR_LOCK, fenced=(A,)), "the lock auto 140"),
        (seen(THEIRS, THEIR_LOCK, fenced=("192.0.2.5:0/0",)), "is not fenced"),
        (seen(THEIRS, THEIR_LOCK, fenced=(A,)), None),
    ],
)
def test_release_is_done_when_fence_watch_and_lock_show_it(
    after: Sighting, words: str | None
) -> None:
    """A look after the release -> all three must show it; others are none of its business."""
    left = what_is_left(after, A, (OWNED,))
    assert left is None if words is None else words in (left or "")
