"""Plays scenes on a simulated cloud for a service in another process: ``detachd simulate``.

A scene is arranged only when somebody is bound to the exchanges of Nova and Cinder: before that its
notifications would be lost, and a scene whose notifications nobody heard teaches nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from consumer.bus.broker import BrokerSettings
from consumer.bus.sender import Confirmation, ConfirmedSender, NotConfirmedError, Parcel
from consumer.bus.topology import declaring
from consumer.demo.scenes import SCENES, Scene, last_attach, new_stage
from consumer.demo.wire import Message
from consumer.errors import BadInputError
from drivers.simulator import Cloud

EXCHANGES = ("nova", "cinder")
# Soon enough after `detachd serve` was started; a person waits.
AGAIN_SECONDS = 2.0

Say = Callable[[str], object]


class UnknownSceneError(BadInputError):
    """No scene begins with these letters, or several do."""


def chosen(names: Sequence[str]) -> tuple[Scene, ...]:
    """Return the scenes whose keys begin so, in the order of the demo; all without any name.

    Raises UnknownSceneError.
    """
    keys = [_one(name) for name in names]
    return tuple(scene for scene in SCENES if not keys or scene.key in keys)


def _one(name: str) -> str:
    found = [scene.key for scene in SCENES if scene.key.startswith(name.lower())]
    if name.lower() in found:
        return name.lower()
    if len(found) != 1:
        among = ", ".join(found or (scene.key for scene in SCENES))
        how = "several scenes begin" if found else "no scene begins"
        raise UnknownSceneError(f"{how} with {name}; choose among {among}")
    return found[0]


def sender(broker: BrokerSettings) -> ConfirmedSender:
    """Return what publishes as Nova and Cinder do; connects to nothing yet."""
    prepare = declaring(EXCHANGES, durable=broker.durable_exchanges)
    return ConfirmedSender(broker, "detachd simulate", prepare=prepare)


class Player:
    """Plays scenes on one cloud, each with a volume, a server and a host of its own.

    ``say`` gets a line for each scene, and one when it has to wait. For one thread.
    """

    def __init__(self, cloud: Cloud, through: ConfirmedSender, say: Say) -> None:
        self._cloud = cloud
        self._through = through
        self._say = say
        self._played = 0

    def play(self, scenes: Sequence[Scene], stop: threading.Event) -> None:
        """Play them one after the other. Blocks until all are told, or ``stop`` is set."""
        for scene in scenes:
            self._played += 1
            stage = new_stage(self._cloud, self._played)
            if not self._told(last_attach(stage), stop):
                return
            for message in scene.arrange(stage):
                if not self._told(message, stop):
                    return
            self._say(f"{scene.name}: volume {stage.volume_id} and server {stage.instance_id}")

    def _told(self, message: Message, stop: threading.Event) -> bool:
        """Publish until it is in a queue; False if ``stop`` was set before."""
        said = ""
        for problem in self._attempts(message):
            if problem is None:
                return True
            # Said once, and again only when it is another problem.
            if problem != said:
                self._say(said := problem)
            if stop.wait(AGAIN_SECONDS):
                return False
        return False

    def _attempts(self, message: Message) -> Iterator[str | None]:
        """Yield after each try why it is in no queue; None if it is in one."""
        parcel = Parcel(message.exchange, message.routing_key, message.body)
        while True:
            try:
                bound = self._through.send(parcel) is Confirmation.CONFIRMED
            except NotConfirmedError as error:
                yield f"waiting for the broker: {error}"
            else:
                yield (
                    None
                    if bound
                    else (
                        f"waiting: no queue is bound to exchange {message.exchange}; start "
                        "`detachd serve` with this configuration"
                    )
                )
