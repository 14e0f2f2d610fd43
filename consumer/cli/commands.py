"""The table of the commands: their groups, where each is defined, and its line in the help.

The module of a command is imported only when the command is called, so that the help is fast.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any, cast

from cliff.command import Command
from cliff.commandmanager import CommandManager
from cliff.help import HelpCommand


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A command: its name, its class as ``module:Class``, and what it does.

    ``example`` is a command line that its help shows.
    """

    name: str
    value: str
    summary: str
    example: str = ""

    def load(self) -> type[Command]:
        """Import the command. cliff calls this when a person calls the command.

        cliff would look for extensions of the command, and for who provides it, which is to read
        the metadata of every installed package: a sixth of a short command's time.
        """
        module, _, attribute = self.value.partition(":")
        command: type[Command] = getattr(importlib.import_module(module), attribute)
        # By setattr, as cliff's types allow none of these to be replaced.
        if self.example:
            setattr(command, "_epilog", f"Example: {self.example}")  # noqa: B010
        setattr(command, "_load_hooks", _without_extensions)  # noqa: B010
        setattr(command, "get_epilog", _own_epilog)  # noqa: B010
        return command


def _without_extensions(command: Command) -> None:
    command._hooks = []  # noqa: SLF001 - what cliff sets where there is none


def _own_epilog(command: Command) -> str:
    return command._epilog or ""  # noqa: SLF001 - set in load


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Commands that serve one purpose; the help shows them under this title."""

    title: str
    commands: tuple[Listed, ...]


GROUPS = (
    Group(
        "Run",
        (
            Listed("serve", "consumer.cli.serve:Serve", "Run the service in the foreground"),
            Listed(
                "demo", "consumer.cli.installation.demo:Demo",
                "Run the use cases on a simulated cloud",
            ),
            Listed(
                "simulate", "consumer.cli.installation.simulate:Simulate",
                "Run a simulated cloud, and publish its notifications",
                "detachd simulate --scenes uc1 uc5 --config-file trial.conf",
            ),
            Listed(
                "doctor", "consumer.cli.installation.doctor:Doctor",
                "Examine what detachd needs, and say what to do",
                "detachd doctor --config",
            ),
            Listed(
                "config minimal", "consumer.cli.installation.config:ConfigMinimal",
                "Print the least that detachd needs",
                "detachd config minimal --simulated",
            ),
            Listed(
                "config sample", "consumer.cli.installation.config:ConfigSample",
                "Print every option with its help and its default",
            ),
            Listed(
                "config check", "consumer.cli.installation.config:ConfigCheck",
                "Read the configuration and say what is wrong in it",
            ),
            Listed(
                "config files", "consumer.cli.installation.config:ConfigFiles",
                "Write alert rules, schemas and the unit into a directory",
                "detachd config files /etc/detachd/files",
            ),
            Listed(
                "ledger upgrade", "consumer.cli.configured:LedgerUpgrade",
                "Create or migrate the tables of the ledger",
            ),
            Listed(
                "replica list", "consumer.cli.installation.replicas:ReplicaList",
                "List the services that use this ledger",
            ),
            Listed(
                "pause", "consumer.cli.installation.replicas:Pause",
                "Stop all writes to the cloud until `detachd resume`",
                'detachd pause --reason "maintenance of the storage network"',
            ),
            Listed("resume", "consumer.cli.installation.replicas:Resume", "End the pause"),
        ),
    ),
    Group(
        "Look",
        (
            Listed(
                "status", "consumer.cli.cases.status:Status",
                "Show what is stuck by backend, and what stands still",
            ),
            Listed(
                "case list", "consumer.cli.cases.listing:CaseList",
                "List the cases, those for a person first",
                "detachd case list --state parked --backend storage-1@fast",
            ),
            Listed(
                "case show", "consumer.cli.cases.show:CaseShow", "Show one case",
                "detachd case show 4f1c",
            ),
            Listed(
                "stuck", "consumer.cli.cloud.stuck:Stuck",
                "List what is in transition in Cinder now",
            ),
            Listed(
                "explain", "consumer.cli.cloud.explain:Explain",
                "Look at a volume, case or server now, and change nothing",
                "detachd explain 5f1c0a52-98f4-4f2e-9d63-0a5b1c7de911",
            ),
            Listed(
                "case bundle", "consumer.cli.cases.bundle:CaseBundle",
                "Write one redacted file for a ticket",
            ),
            Listed(
                "audit export", "consumer.cli.cases.audit:AuditExport",
                "Print every decision and write as JSON lines",
            ),
            Listed(
                "sweep list", "consumer.cli.cloud.sweep:SweepList",
                "List what the sweeps found in transition or exported",
            ),
            Listed(
                "driver list", "consumer.cli.cloud.driver:DriverList",
                "List the storage drivers, and what each can do",
            ),
            Listed(
                "driver probe", "consumer.cli.cloud.driver:DriverProbe",
                "Look at a volume with a storage driver",
                "detachd driver probe storage-1@fast 5f1c0a52-98f4-4f2e-9d63-0a5b1c7de911",
            ),
            Listed(
                "rule list", "consumer.cli.cases.rule:RuleList",
                "List the rules, in the order in which they decide",
            ),
            Listed(
                "rule show", "consumer.cli.cases.rule:RuleShow", "Show one rule",
                "detachd rule show UC5.leaked",
            ),
            Listed(
                "notification inspect", "consumer.cli.messages.notification:NotificationInspect",
                "Show how detachd reads a notification",
                "detachd notification inspect message.json",
            ),
        ),
    ),
    Group(
        "Decide",
        (
            Listed(
                "case approve", "consumer.cli.cases.decide:CaseApprove",
                "Approve the plan of a case that awaits approval",
            ),
            Listed(
                "case acknowledge", "consumer.cli.cases.decide:CaseAcknowledge",
                "Leave a case out of the alerts for a time",
                'detachd case acknowledge 4f1c --until 2d --reason "waits for the vendor"',
            ),
            Listed(
                "case close", "consumer.cli.cases.decide:CaseClose", "Dismiss a parked case",
                'detachd case close 4f1c --reason "put right by hand"',
            ),
            Listed(
                "case note", "consumer.cli.cases.decide:CaseNote",
                "Write into a case's history",
            ),
            Listed(
                "host attest", "consumer.cli.cloud.host:HostAttest",
                "Say that a compute host is powered off",
                'detachd host attest compute-7 --off --until 8h --reason "unplugged, ticket 4711"',
            ),
            Listed(
                "host list", "consumer.cli.cloud.host:HostList",
                "List what was said of hosts that are powered off",
            ),
            Listed(
                "host revoke", "consumer.cli.cloud.host:HostRevoke",
                "Take back that a host is powered off",
            ),
            Listed(
                "fence list", "consumer.cli.cloud.fence:FenceList",
                "List the clients of storage clusters that were fenced",
            ),
            Listed(
                "fence lift", "consumer.cli.cloud.fence:FenceLift",
                "Let a fenced client in again",
                'detachd fence lift 7 --reason "compute-7 was started anew, ticket 4711"',
            ),
            Listed(
                "replay case", "consumer.cli.cases.replay:ReplayCase",
                "Diagnose cases again at once, whatever their state",
                'detachd replay case --state parked --backend storage-1@fast --preview',
            ),
            Listed(
                "replay file", "consumer.cli.messages.replay:ReplayFile",
                "Replay recorded notifications",
            ),
            Listed(
                "announcement list", "consumer.cli.messages.announcement:AnnouncementList",
                "List the announcements that reached no queue",
            ),
            Listed(
                "announcement resend", "consumer.cli.messages.announcement:AnnouncementResend",
                "Send announcements that reached no queue again",
                'detachd announcement resend --since 2d --reason "the subscriber is back"',
            ),
            Listed(
                "sweep acknowledge", "consumer.cli.cloud.sweep:SweepAcknowledge",
                "Say that you have seen what the sweeps found",
            ),
        ),
    ),
    Group(
        "Messages that could not be read",
        (
            Listed(
                "quarantine list", "consumer.cli.messages.quarantine:QuarantineList",
                "List the messages in quarantine",
            ),
            Listed(
                "quarantine show", "consumer.cli.messages.quarantine:QuarantineShow",
                "Show one message",
            ),
            Listed(
                "quarantine replay", "consumer.cli.messages.quarantine:QuarantineReplay",
                "Replay messages, after you removed the cause",
                "detachd quarantine replay --all",
            ),
            Listed(
                "quarantine discard", "consumer.cli.messages.quarantine:QuarantineDiscard",
                "Delete messages and keep their hash and the reason",
            ),
        ),
    ),
    Group(
        "Help",
        (
            Listed(
                "help", "consumer.cli.commands:Help", "Show the commands, or the help of one",
                "detachd help case list",
            ),
            Listed(
                "complete", "cliff.complete:CompleteCommand", "Print the completion for bash"
            ),
        ),
    ),
)  # fmt: skip


def every() -> Iterator[Listed]:
    """Yield the commands in the order of the help."""
    for group in GROUPS:
        yield from group.commands


class Commands(CommandManager):
    """Finds the commands of the table by name."""

    def load_commands(self, namespace: str) -> None:
        """Take the names of the commands from the table."""
        # What cliff does in the method that this one replaces.
        self.group_list.append(namespace)
        # It has what cliff uses of an entry point: name, value and load().
        self.commands.update({listed.name: cast("Any", listed) for listed in every()})

    def add_command(self, name: str, command_class: type[Command]) -> None:
        """Keep ours: cliff adds its own ``help`` and ``complete``."""
        if name not in self.commands:
            super().add_command(name, command_class)


def whole(options: argparse.ArgumentParser) -> str:
    """Return the help of ``detachd``: its options, and the commands by group, one a line."""
    width = max(len(listed.name) for listed in every())
    blocks = [
        "\n".join([f"{group.title}:", *(_line(listed, width) for listed in group.commands)])
        for group in GROUPS
    ]
    closing = "`detachd help COMMAND` shows the options of a command.\n"
    return "\n\n".join([options.format_help().rstrip(), *blocks, closing])


def _line(listed: Listed, width: int) -> str:
    return f"  {listed.name:<{width}}  {listed.summary}"


class Help(HelpCommand):
    """Show the commands, or the help of one command."""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Print it."""
        if parsed_args.cmd:
            return int(super().take_action(parsed_args))
        self.app.stdout.write(whole(self.app.parser))
        return 0
