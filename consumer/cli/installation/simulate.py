"""``detachd simulate``: the simulated cloud as a process, its notifications on a real broker."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from consumer.cli.app import seconds
from consumer.cli.configured import ConfiguredCommand, settings_of
from consumer.errors import BadInputError, ConfigurationError

if TYPE_CHECKING:
    from consumer.bus.broker import BrokerSettings
    from consumer.settings.configuration import Settings, SimulatorSettings
    from drivers.simulator import Cloud

NO_SIMULATOR = (
    "[simulator] is not configured: `detachd config minimal --simulated > trial.conf` writes a "
    "configuration for a trial; name it with --config-file"
)


class Simulate(ConfiguredCommand):
    """Run a simulated cloud in the foreground, for a trial of alerts, subscribers and options.

    It has Cinder, Nova and a storage backend in memory. Each scene makes a volume that is stuck, or
    a healthy one that looks so, and publishes what Nova and Cinder would. `detachd serve` with the
    same configuration does what it would do in a real cloud. The cloud listens on the address, with
    the authkey, of [simulator]; the scenes are published to transport_url.

    It runs until SIGTERM or SIGINT. Everything in the cloud is gone then.
    """

    def _add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--listen",
            metavar="HOST:PORT",
            help="where the cloud listens (default: [simulator] address); the service needs to "
            "reach it, and nobody else",
        )
        parser.add_argument(
            "--scenes",
            nargs="*",
            default=[],
            metavar="SCENE",
            help="what to play, by the first letters of the name, such as uc1 (default: all)",
        )
        parser.add_argument(
            "--publish",
            metavar="TRANSPORT_URL",
            help="the broker to publish to (default: transport_url); other users of this machine "
            "can see a password that is given here",
        )
        parser.add_argument(
            "--every",
            type=seconds,
            metavar="SECONDS",
            help="play the scenes again and again, on new volumes, with so many seconds between",
        )

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Serve the cloud, play the scenes, and wait for a signal."""
        from consumer.cli.serve import waiting_for_signals
        from consumer.demo import playing
        from drivers.simulator import Cloud

        scenes = playing.chosen(parsed_args.scenes)
        settings = settings_of(parsed_args)
        through = playing.sender(_broker(settings, parsed_args.publish))
        over = threading.Event()
        wait = waiting_for_signals(over)
        with Cloud() as cloud, _served(cloud, settings.simulator, parsed_args.listen) as address:
            self._say(f"The simulated cloud listens on {address}.")
            player = playing.Player(cloud, through, self._say)

            def play() -> None:
                player.play(scenes, over)
                while parsed_args.every and not over.wait(parsed_args.every):
                    player.play(scenes, over)

            # In a thread: the main one waits for signals, and the scenes wait for a subscriber.
            thread = threading.Thread(target=play, name="scenes")
            thread.start()
            wait()
            over.set()
            # Before the sender is closed, which the scenes use.
            thread.join()
            through.close()

    def _say(self, line: str) -> None:
        self.app.stdout.write(f"{line}\n")
        self.app.stdout.flush()


def _broker(settings: Settings, url: str | None) -> BrokerSettings:
    from consumer.bus.broker import BrokerSettings, url_explained

    with url_explained():
        return BrokerSettings.from_conf(settings.conf, url)


@contextlib.contextmanager
def _served(cloud: Cloud, simulator: SimulatorSettings | None, listen: str | None) -> Iterator[str]:
    """Serve the cloud within the block; yield where it listens."""
    from drivers.simulator.remote import serve_cloud
    from drivers.simulator.wire import parse_address

    if simulator is None:
        raise ConfigurationError([NO_SIMULATOR])
    try:
        server = serve_cloud(
            cloud, parse_address(listen or simulator.address), simulator.authkey.encode()
        )
    except ValueError as error:
        raise BadInputError(str(error)) from None
    except OSError as error:
        where = listen or simulator.address
        raise BadInputError(
            f"cannot listen on {where}: {error.strerror}; {_advice(error)}"
        ) from None
    try:
        yield server.address
    finally:
        cloud.close()  # first, so that a call that hangs does not keep the server
        server.close()


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "below 1024 it needs a right of root: set a higher port in [simulator] address"
    return "end another `detachd simulate` that has it, or set another address in [simulator]"
