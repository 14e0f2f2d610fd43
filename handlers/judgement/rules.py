"""The decision table, read from the top: the first rule that holds decides. Nothing but data.

What a rule asks for (``when``), and what it leaves to others (``unless``), is all there is.
docs/rules.md is made from this table by ``make docs``.

1. The order is the safety: what is in flight or cannot be seen is turned away first and what is
   healthy is recognised. Only then may a rule act.
2. Every situation has a verdict: the last rule asks for nothing. What no rule knows is for a
   person.
3. Time is no part of any rule.
"""

from __future__ import annotations

from handlers.case import UseCase
from handlers.judgement import facts
from handlers.judgement.rule import Rule, Section, Verdict

CINDER_UNKNOWN = "X1.cinder-unknown"
UNKNOWN_TO_CINDER = "X4.unknown-to-cinder"
VOLUME_GONE = "G1.volume-gone"
CRASHES = "P11.crashes"
TWO_WRITERS = "P15.two-writers"
OPEN_TO_OTHERS = "P18.open-to-others"
GIVEN_AWAY = "P19.given-away"
ACCESS_LOST = "P8.access-lost"
ANOTHER_USER = "P20.another-user"
AMBIGUOUS = "P3.ambiguous"
GUEST_NOT_ENDED = "P25.guest-not-ended"
UNEXPLAINED = "P17.unexplained"
STATUS_WITHOUT_ROW = "P30.status-without-a-row"
LEFT_OVER = "P28.other-left-over"
OTHER_UNEXPLAINED = "B8.other-unexplained"

OF_THE_VOLUME = frozenset(
    {TWO_WRITERS, OPEN_TO_OTHERS, GIVEN_AWAY, ACCESS_LOST, ANOTHER_USER, UNEXPLAINED, LEFT_OVER}
)
"""What these find is the volume's, whichever attachment a case is about; their reasons name it."""

BEFORE = Section(
    "Before any look",
    (
        Rule(
            CRASHES,
            Verdict.PARK,
            (
                "the lease ran out during each of the last attempts, so the service process may "
                "have died"
            ),
            seen=(
                "Each of the last three attempts at this case ended because its lease ran out: "
                "the service process died, or was too slow."
            ),
            meant="Something in this case may crash the process.",
            done="Parked without a look, so that it cannot stop all other cases.",
            source=(
                "A crash of detachd, not of the cloud. A replay by a person starts the count anew."
            ),
        ),
        Rule(
            CINDER_UNKNOWN,
            Verdict.UNKNOWN,
            "Cinder did not answer",
            seen="Cinder did not answer.",
            meant="Nothing.",
            done="Unknown; neither Nova nor the backend is asked.",
            source="An outage of cinder-api (made).",
        ),
        Rule(
            UNKNOWN_TO_CINDER,
            Verdict.UNKNOWN,
            "Cinder says that the volume does not exist, and was never known to have it",
            seen=(
                "Cinder says that it has no such volume. No look of detachd ever saw the volume "
                "there, and no message told that it was deleted or unmanaged."
            ),
            meant=(
                "It may be the wrong Cinder: of another region or cloud than the bus. The volume "
                "may be in use there."
            ),
            done=(
                "Unknown; nothing is released. Several volumes of this kind in a row make the "
                "component `cinder` not ready, and `DetachdUnknownToCinder` alerts."
            ),
            source="A region_name or endpoint_override of another region or cloud (read).",
        ),
        Rule(
            VOLUME_GONE,
            Verdict.GONE,
            "Cinder says that the volume does not exist, and had it",
            seen=(
                "Cinder says that it has no such volume, and it had it: an earlier look saw it "
                "there, or `volume.delete.end` or `volume.unmanage.end` told of its end."
            ),
            meant="There is nothing to recover in Cinder.",
            done="Closed as gone. If a start was announced, an error is announced too.",
            source="A volume that is deleted or unmanaged while its case is waiting (read).",
        ),
    ),
)

SECTIONS = (
    Section(
        "Danger, whichever attachment the case is about",
        (
            Rule(
                TWO_WRITERS,
                Verdict.PARK,
                (
                    "critical: several hosts may be writing to the volume at once, which destroys "
                    "its data"
                ),
                when=(facts.several_writers,),
                unless=(facts.cinder_at_work, facts.writer_on_a_dead_host),
                meant=(
                    "Two guests write to one disk and destroy what is on it: a status was reset "
                    "by hand and the volume was attached to the next server, or a server was "
                    "deleted while its compute was down. A session whose host is not known "
                    "counts as well. Several sessions, portals or initiator names of one "
                    "connector are one host. A session does not count where Nova says that its "
                    "guest was ended there."
                ),
                done=(
                    "Parked, whatever the case is about; the reason says critical and names the "
                    "hosts, their servers and the attachments, and `DetachdTwoWriters` alerts at "
                    "once. Only a person who knows which guest is the right one may end a "
                    "connection."
                ),
                source=(
                    "`reset-state` (specified as the danger; made with two initiators on one "
                    "target)."
                ),
            ),
            Rule(
                OPEN_TO_OTHERS,
                Verdict.PARK,
                (
                    "danger: another server or project may get the volume at any time, while a "
                    "host holds a live session, so that a guest may be writing"
                ),
                when=(facts.open_to_others, facts.live_session),
                unless=(facts.guest_holds_and_at_rest, "UC5.ghost"),
                meant=(
                    "The next attach makes two writers. A status was reset by hand, a server was "
                    "deleted while its compute was down, a clean-up lost a row, or a host did not "
                    "log out."
                ),
                done=(
                    "Parked at the first look that is confirmed, whether a compute is down, a "
                    "task runs or Nova does not answer. The reason names the hosts and servers. "
                    "`DetachdOpenToOthers` alerts. What Nova can name at once is left to "
                    "`P6.guest-holds`, and a session of a host on which Nova names nobody to "
                    "`LIVE_SESSION`: both park at once too."
                ),
                source=(
                    "`reset-state` (specified); a server deleted locally; a migration's rollback "
                    "that deleted the source's row (read)."
                ),
            ),
            Rule(
                GIVEN_AWAY,
                Verdict.PARK,
                (
                    "danger: the volume is up for transfer to another project, and the backend "
                    "still lets a host in"
                ),
                when=(facts.up_for_transfer, facts.somebody_let_in),
                meant=(
                    "The next owner gets a disk that a host of the present one can write to. While "
                    "it is up for transfer, Cinder lets nobody reserve it, so that the access "
                    "cannot be ended safely."
                ),
                done=(
                    "Parked at the first look that is confirmed. When the transfer is withdrawn, a "
                    "replay ends what was left."
                ),
                source="Volume transfers (read).",
            ),
        ),
    ),
    Section(
        "Another operation is under way, or a source gave no answer",
        (
            Rule(
                "P1.volume-error",
                Verdict.PARK,
                "the volume is in an error or maintenance status",
                when=(facts.volume_in_error,),
                meant="Cinder has given up on the volume, or keeps it for maintenance.",
                done=(
                    "Parked; in maintenance Cinder refuses a detach only after it has ended the "
                    "connection."
                ),
                source="A failed re-export after a restart, an admin, a failover (read).",
            ),
            Rule(
                "B1.volume-busy",
                Verdict.IN_FLIGHT,
                "another operation on the volume is under way",
                when=(facts.volume_busy,),
                meant=(
                    "A backup, an upload, a retype or a migration is under way. Its connection "
                    "of a Cinder host looks like a leak and is not one."
                ),
                done="In-flight.",
                source="Backups, image uploads, volume migrations (read).",
            ),
            Rule(
                "X2.nova-unknown",
                Verdict.UNKNOWN,
                "Nova could not say which server may be using the volume",
                when=(facts.nova_unknown,),
                unless=(facts.finished_without_nova,),
                meant="A guest may be using the disk.",
                done="Unknown; the reason says what to check.",
                source=(
                    "An outage of nova-api (made); a cell that a list leaves out silently "
                    "(read); a server of another region, of bare metal (Ironic) or of a client "
                    "that is not Nova, which this Nova denies as it denies a deleted one (made); "
                    "a deleted server whose record was archived (read)."
                ),
            ),
            Rule(
                "B2.server-busy",
                Verdict.IN_FLIGHT,
                "a task of Nova's is under way on a server that has the volume",
                when=(facts.server_busy,),
                meant=(
                    "A live migration, a shelving or a rebuild is under way. Two rows of one "
                    "server are correct meanwhile. So is a volume swap, which sets no task: for "
                    "hours the server has both volumes, and names the old one alone."
                ),
                done="In-flight.",
                source=(
                    "Live migration and its short moment of `attaching`, unshelving, evacuation "
                    "(made); volume swaps (nova/compute/manager.py) (read)."
                ),
            ),
        ),
    ),
    Section(
        "Healthy",
        (
            Rule(
                "H1.shelved",
                Verdict.HEALTHY,
                "a shelved server keeps its volume, and may for months",
                when=(
                    facts.server_shelved,
                    facts.reserved_or_in_use,
                    facts.named_by_device,
                    facts.attachment_is_reserved_or_attached,
                ),
                unless=(
                    facts.unexplained_party,
                    facts.several_writers,
                    facts.connected_while_shelved,
                    "P8.access-lost",
                ),
                meant="The row is how the server gets its volume back, perhaps months later.",
                done="Nothing.",
                source="Shelving (made).",
            ),
            Rule(
                "H2.attached",
                Verdict.HEALTHY,
                "Cinder says attached and Nova's block device names this attachment",
                when=(
                    facts.in_use_or_reserved_anew,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                ),
                unless=(
                    facts.unexplained_party,
                    facts.may_be_on_another_host,
                    facts.several_writers,
                    facts.server_shelved,
                    "P9.unfinished-sibling",
                    "P8.access-lost",
                    "UC4.rolled",
                    "UC2.completed",
                ),
                meant=(
                    "It is attached, as it should be: a retry succeeded, a guest refused to give "
                    "up the disk, or Nova refused a detach."
                ),
                done="Nothing, whether the backend was seen or not.",
                source="A slow backend whose second try succeeded; `DeviceDetachFailed` (made).",
            ),
            Rule(
                "H3.attached-the-old-way",
                Verdict.HEALTHY,
                (
                    "Cinder says attached and Nova has a block device of the kind that names no "
                    "attachment"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.no_other_attachment,
                    facts.device_names_no_attachment,
                ),
                unless=(
                    facts.unexplained_party,
                    facts.several_writers,
                    "P8.access-lost",
                    facts.connected_while_shelved,
                ),
                meant="An attachment from before Cinder had attachment ids.",
                done="Nothing.",
                source=(
                    "Legacy attachments, which Nova's API hides from microversion 2.89 on (read)."
                ),
            ),
            Rule(
                "H4.kept-for-a-revert",
                Verdict.HEALTHY,
                (
                    "the server was resized to another host, and until that is confirmed, Nova "
                    "keeps a reserved row for the way back"
                ),
                when=(
                    facts.in_use,
                    facts.kept_for_a_revert,
                    facts.second_attachments_are_good,
                ),
                unless=(facts.unexplained_party, facts.several_writers, "P8.access-lost"),
                meant=(
                    "A resize to another cell. Its reserved row is named by a block device in the "
                    "source's cell, which Nova's API does not show, and a revert needs it."
                ),
                done="Nothing, however long it takes: Nova by itself may never confirm.",
                source="Nova's nova/conductor/tasks/cross_cell_migrate.py (read).",
            ),
            Rule(
                "P2.names-the-wrong-row",
                Verdict.PARK,
                (
                    "Nova's block device names one of two rows of the same server, and its guest "
                    "may be running on the host of the other row"
                ),
                when=(facts.wrong_attachment_named,),
                unless=(facts.open_to_others,),
                meant=(
                    "After a live migration that failed twice over, or in which a compute was "
                    "restarted, Nova names the destination's row while the guest runs on the "
                    "source's."
                ),
                done="Parked: a release by Nova's record could take the disk from the guest.",
                source=(
                    "A rollback whose clean-up failed too (made); a post-copy migration that "
                    "failed, a source's compute that was restarted in a migration (read)."
                ),
            ),
        ),
    ),
    Section(
        "From here on a rule may act: everything was seen and nothing is ambiguous",
        (
            Rule(
                "X3.backend-unknown",
                Verdict.UNKNOWN,
                "the backend could not be seen",
                when=(facts.backend_unknown,),
                meant="Nothing.",
                done="Unknown.",
                source="An array that is down; a volume that was migrated (read).",
            ),
            Rule(
                AMBIGUOUS,
                Verdict.PARK,
                "several attachments of the volume may be meant and no message says which",
                when=(facts.ambiguous,),
                meant="Acting would be a guess.",
                done=(
                    "Parked; but while other cases work on attachments of the volume, it waits "
                    "for them: what they leave may be clear."
                ),
                source=(
                    "Nova's versioned messages, which carry no attachment id, on a multiattach "
                    "volume (read)."
                ),
            ),
            Rule(
                "P4.no-instance",
                Verdict.PARK,
                (
                    "no instance is known for the attachment, so Nova cannot be asked whether a "
                    "server uses the volume"
                ),
                when=(facts.no_instance_to_ask,),
                unless=(
                    "C1.nothing-left",
                    "C2.nothing-left-blind",
                    "UC3.host-let-go",
                    STATUS_WITHOUT_ROW,
                ),
                meant=(
                    "Nova cannot be asked whether a server uses the volume. A host that "
                    "is no compute may use it."
                ),
                done="Parked.",
                source="Attachments of the image service or of bare metal (read).",
            ),
            Rule(
                ANOTHER_USER,
                Verdict.PARK,
                (
                    "by Nova's records a server may be using the volume that no attachment of "
                    "Cinder's is for: it has a block device for it, is being migrated, or was "
                    "evacuated off a host on which its guest may be running still"
                ),
                when=(facts.another_user,),
                meant=(
                    "The server may be using the access that is left, or that another attachment "
                    "explains: its row was dropped, or Nova has not recorded that its old guest "
                    "was ended on the host that it was evacuated off."
                ),
                done="Parked, and the reason names it: nothing is ended or given to others.",
                source=(
                    "`reset-state` with the rows dropped (specified); a compute killed while "
                    "Cinder deleted the row (made)."
                ),
            ),
            Rule(
                "B3.other-attachment",
                Verdict.IN_FLIGHT,
                "another attachment of the volume is being made or ended",
                when=(facts.other_attachment_in_transition,),
                meant="Another attach or detach is under way.",
                done="In-flight; if that one is stuck, it has a case of its own.",
                source=(
                    "A user who attached it anew in the meantime; a second server of a "
                    "multiattach volume (read)."
                ),
            ),
            Rule(
                "B4.compute-down",
                Verdict.IN_FLIGHT,
                (
                    "the compute service of a host that may use the volume is not known to be "
                    "up, so a guest may be using it there"
                ),
                when=(facts.compute_not_up,),
                unless=("C1.nothing-left", "C2.nothing-left-blind", facts.only_hosts_that_are_off),
                meant=(
                    "Nothing shows whether a guest is using the volume there. The host may still "
                    "carry out earlier requests when it comes back."
                ),
                done="In-flight.",
                source=(
                    "A compute that died during the detach, or was down when it was asked and "
                    "recovered by itself later (made)."
                ),
            ),
            Rule(
                "B5.nova-detaching",
                Verdict.IN_FLIGHT,
                "Nova has accepted the detach and is carrying it out",
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.nova_detaches,
                    facts.detach_of_this_case,
                    facts.nova_asked_lately,
                ),
                meant="Nova is detaching the volume; a guest can take minutes.",
                done="In-flight.",
                source="Slow guests (read).",
            ),
            Rule(
                "B6.detach-asked-since",
                Verdict.IN_FLIGHT,
                (
                    "it is attached, and a detach is on record that this case is not about: one "
                    "was asked for since, or the status was written by hand"
                ),
                when=(facts.detaching, facts.attachment_is_attached, facts.named_by_device),
                unless=(facts.detach_of_this_case,),
                meant=(
                    "The attach ended and only its end was lost; the detach that was asked for "
                    "since is another case. Or a person wrote the status, and nobody wants it "
                    "detached."
                ),
                done="In-flight.",
                source="Lost and late notifications; `reset-state --state detaching` (read).",
            ),
            Rule(
                "B7.source-down",
                Verdict.IN_FLIGHT,
                (
                    "a row of the server is on a host that the server has left and whose compute "
                    "service is not known to be up: after an evacuation the old guest may still "
                    "run there"
                ),
                when=(facts.left_on_a_host_that_is_down,),
                meant=(
                    "The server was evacuated rather than migrated, and its old guest may still "
                    "run on the old host with the disk. When that host comes back, its compute "
                    "ends the guest and the connection itself."
                ),
                done="In-flight.",
                source="Evacuations (read).",
            ),
        ),
    ),
    Section(
        "The five use cases",
        (
            Rule(
                "UC2.late-first-try",
                Verdict.ROLL_FORWARD,
                (
                    "the attach had ended well, then a first try that finished late put the "
                    "volume back to attaching"
                ),
                when=(
                    facts.end_seen,
                    facts.attaching,
                    facts.attachment_is_attaching,
                    facts.named_by_device,
                    facts.no_second_attachment,
                    facts.has_guest,
                    facts.connected_or_blind,
                ),
                meant=(
                    "The first try, which had timed out, finished after the retry had succeeded "
                    "and put the healthy volume back to `attaching`. No message reported it."
                ),
                done="Roll-forward.",
                source="A backend that hung once (made).",
                use_case=UseCase.UC2,
            ),
            Rule(
                "UC2.attached",
                Verdict.ROLL_FORWARD,
                (
                    "Nova's block device names the attachment and the backend has a connection; "
                    "only Cinder was not told"
                ),
                when=(
                    facts.attaching,
                    facts.attachment_is_attaching,
                    facts.named_by_device,
                    facts.no_second_attachment,
                    facts.has_guest,
                    facts.connected_or_blind,
                ),
                where_blind=(
                    "Nova's block device names the attachment and its row is attaching: only "
                    "Cinder was not told, as far as Nova shows; the backend cannot be seen"
                ),
                meant="It is attached and only Cinder was not told.",
                done=(
                    "Roll-forward, by `os-complete` on that very row. It stays attached, which is "
                    "what its user asked for, unless the operator wants otherwise "
                    "(`UC2.completed`)."
                ),
                source="UC2 (specified); cinder-api down in the last moment of an attach (made).",
                use_case=UseCase.UC2,
            ),
            Rule(
                "UC2.completed",
                Verdict.NOVA_DETACH,
                (
                    "an attach that only Cinder did not know of was completed, and it is to be "
                    "detached: by its user's wish, or as the operator wants such attaches to be"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_other_attachment,
                    facts.nova_detaches,
                    facts.detach_wanted,
                    facts.completed_and_not_detached,
                ),
                meant=(
                    "No message said that the attach succeeded, and its user has given it up; or "
                    "its user had asked for a detach (`UC4.overwritten`)."
                ),
                done="Nova-detach; in mode *approve* after a second approval.",
                source=(
                    "UC2 as it was in 2015, which ends detached (specified); a detach that a late "
                    "answer to the attach has overwritten (made). What is known to "
                    "have ended well is kept whatever the operator wants (`UC2.late-first-try`): "
                    "a guest relies on it. An end that was lost counts as none."
                ),
                use_case=UseCase.UC2,
            ),
            Rule(
                "P32.swap-failed",
                Verdict.PARK,
                (
                    "the volume is detaching, and by Nova's record the last thing asked of its "
                    "server was not a detach, but to swap a volume for another one, which failed: "
                    "nobody is known to want it detached"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.swap_failed,
                ),
                unless=(facts.detach_begun,),
                meant=(
                    "A swap makes the old volume detaching as a detach does, and takes that back "
                    "where it fails, unless Cinder does not answer to that. The guest may be using "
                    "the volume, and its user did not ask for a detach."
                ),
                done=(
                    "Parked: where the guest uses it, `cinder reset-state --state in-use` corrects "
                    "the status and leaves the row."
                ),
                source="A swap that failed while Cinder was down (nova/compute/manager.py) (read).",
            ),
            Rule(
                "P33.swapped-unseen",
                Verdict.PARK,
                (
                    "the attach never finished and no block device names it, but by Nova's record "
                    "the last swap of a volume of its server failed, and the backend cannot be "
                    "seen: the guest may have come to use this volume in it"
                ),
                when=(
                    facts.blind,
                    facts.attachment_is_unfinished,
                    facts.server_exists,
                    facts.no_block_device,
                    facts.swap_failed,
                ),
                unless=(facts.attach_begun,),
                meant=(
                    "A swap that fails after the guest has moved to the new volume leaves Nova's "
                    "record at the old one. Where the backend is seen, a session tells."
                ),
                done="Parked: a person can see in the guest's domain which volume it uses.",
                source=(
                    "A swap whose last call of Cinder failed, after the guest has moved "
                    "(nova/compute/manager.py `_swap_volume`) (read)."
                ),
            ),
            Rule(
                "UC4.wish-on-record",
                Verdict.NOVA_DETACH,
                "Cinder has the wish to detach on record and Nova has not carried it out",
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_other_attachment,
                    facts.nova_detaches,
                    facts.detach_of_this_case,
                ),
                meant="The wish to detach is on record and Nova did not carry it out.",
                done="Nova-detach; a guest that refuses leaves it in-use, which is healthy.",
                source=(
                    "UC4 (specified); a failing or frozen backend, a compute killed in the middle "
                    "(made)."
                ),
                use_case=UseCase.UC4,
            ),
            Rule(
                "UC4.overwritten",
                Verdict.ROLL_FORWARD,
                (
                    "a detach is on record that Nova could not complete, a late answer to the "
                    "attach has made its row attaching again, and the backend lets nobody in"
                ),
                when=(
                    facts.attaching,
                    facts.attachment_is_attaching,
                    facts.named_by_device,
                    facts.no_other_attachment,
                    facts.nova_detaches,
                    facts.detach_of_this_row,
                    facts.clean,
                ),
                meant=(
                    "Cinder gave up waiting for the first tries of the attach, a later try "
                    "succeeded, and the volume was used. In the detach the backend let the host "
                    "go and Cinder failed; then the first try of the attach finished, which "
                    "writes attaching over detaching. Nova takes a detach of an attached volume "
                    "only, so the row is completed first; nobody can write meanwhile."
                ),
                done="Roll-forward, by `os-complete` on that very row; then `UC2.completed`.",
                source="Eight volumes used at once on a backend that failed at random (made).",
                use_case=UseCase.UC4,
            ),
            Rule(
                "UC4.rolled",
                Verdict.NOVA_DETACH,
                "the wish to detach was rolled back to in-use so that Nova can carry it out",
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_second_attachment,
                    facts.nova_detaches,
                    facts.detach_wanted,
                    facts.rolled_and_not_detached,
                ),
                unless=(facts.shared_host,),
                meant=(
                    "A crash, a pause or a failure came between the two steps of "
                    "`UC4.wish-on-record`."
                ),
                done="Nova is asked to detach.",
                source=(
                    "Our own crash; a wish for another attachment, be it of the same server, "
                    "never counts."
                ),
                use_case=UseCase.UC4,
            ),
            Rule(
                "UC4.wish-beside-others",
                Verdict.NOVA_DETACH,
                (
                    "the messages name the one of several attachments whose detach Cinder has on "
                    "record, and Nova has not carried it out"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_second_attachment,
                    facts.other_attachments_in_order,
                    facts.nova_detaches,
                    facts.detach_of_this_row,
                ),
                unless=(facts.another_detach_wanted, facts.shared_host),
                meant=(
                    "Cinder's status does not say of which attachment, but the messages name it, "
                    "and Cinder takes one wish at a time. Every other row is in order, on another "
                    "host, or over, and no other detach is known of."
                ),
                done="Nova-detach of that one.",
                source=(
                    "A multiattach volume, a detach that the backend failed (read): Cinder's "
                    "volume.detach.start lists all rows, Nova's error names one."
                ),
                use_case=UseCase.UC4,
            ),
            Rule(
                "P29.wish-on-a-shared-host",
                Verdict.PARK,
                (
                    "the messages name the one of several attachments that is to be detached, but "
                    "another server of the same host uses the volume, or may: one connection "
                    "serves both, and the detach could take the disk from the other one"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_second_attachment,
                    facts.other_attachments,
                    facts.detach_of_this_row,
                    facts.shared_host,
                ),
                unless=(facts.another_detach_wanted,),
                meant=(
                    "Whether the connection of a host outlasts the detach of one of its servers "
                    "depends on the backend's own driver, which no look shows."
                ),
                done=(
                    "Parked: with `cinder reset-state --state in-use`, the detach may be asked of "
                    "Nova again where that driver counts the attachments of a host."
                ),
                source="A multiattach volume, two servers of one host (read).",
            ),
            Rule(
                "P10.whose-wish",
                Verdict.PARK,
                (
                    "the volume is detaching and has several attachments, and Cinder does not say "
                    "which of them goes"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.held_or_server_gone,
                    facts.other_attachments,
                ),
                meant="Cinder's status does not say of which attachment.",
                done="Parked.",
                source="Multiattach (read).",
            ),
            Rule(
                "P27.let-in-beside-a-row",
                Verdict.PARK,
                (
                    "danger: a row of the volume is left, Cinder gives the volume to others all "
                    "the same, and the backend still has a connection"
                ),
                when=(facts.open_to_others, facts.row_left),
                unless=(facts.guest_holds, facts.no_connection),
                where_blind=(
                    "danger: a row of the volume is left, Cinder gives the volume to others all "
                    "the same, and the backend cannot be seen"
                ),
                meant=(
                    "A detach failed at its end and left its row in error, or a person reset the "
                    "status of an attach or a detach that was stuck, and its row is left. The next "
                    "server gets a volume to which an earlier host may write. Beside a row, "
                    "Cinder's reserve cannot keep others out: giving it back would leave the "
                    "volume in-use."
                ),
                done=(
                    "Parked. With the row deleted (`cinder attachment-delete`, which ends the "
                    "connection too), a replay ends what is left."
                ),
                source=(
                    "A driver whose removal of the export failed in a detach; `reset-state "
                    "--state available` alone; the same before a transfer (read)."
                ),
            ),
            Rule(
                "P34.row-up-for-transfer",
                Verdict.PARK,
                (
                    "the volume is up for transfer to another project, and a row of it is left, "
                    "which the next owner would get with it"
                ),
                when=(facts.up_for_transfer,),
                unless=(facts.no_attachments, facts.guest_holds, facts.somebody_let_in),
                meant=(
                    "A person reset the status of an attach or a detach that was stuck, and its "
                    "row is left. Nobody is let in, or only the error of an attach is left."
                ),
                done=(
                    "Parked: Cinder makes the volume available where the row is deleted, which "
                    "ends the transfer. When that is withdrawn, a replay deletes the row."
                ),
                source="`reset-state --state available` before a transfer (read).",
            ),
            Rule(
                "P5.server-deleted",
                Verdict.PARK,
                (
                    "the server is deleted but its row is left, and neither the backend nor "
                    "Nova's record of the deletion proves that its guest does not use the volume "
                    "any more"
                ),
                when=(facts.server_gone, facts.has_attachment, facts.guest_may_have_it),
                unless=(facts.clean, facts.guest_ended, facts.its_host_is_off),
                where_blind=(
                    "the server is deleted but its row is left; Nova's record of the deletion does "
                    "not prove that its guest does not use the volume any more, and the backend "
                    "cannot be seen"
                ),
                meant=(
                    "Nothing proves that the guest does not use the disk any more, on a host "
                    "that was down when the server was deleted (nova-api then deletes the record "
                    "alone), or that the server had been evacuated from. That the compute is up "
                    "by now proves nothing."
                ),
                done="Parked.",
                source=(
                    "An instance deleted while its compute was down (read). What counts as proof "
                    "is Nova's own record of the deletion, which it keeps until the server is "
                    "archived: that host's nova-compute ended its terminate_instance with "
                    "Success. Destroying the guest is its first act, and a failure of that is an "
                    "Error (nova/compute/manager.py)."
                ),
            ),
            Rule(
                "UC1.unfinished",
                Verdict.RELEASE,
                "the attach never finished and Nova holds nothing",
                when=(
                    facts.attach_unfinished,
                    facts.attachment_is_unfinished,
                    facts.no_other_attachment,
                    facts.no_block_device,
                ),
                meant="The attach never finished and all callers have given it up.",
                done="Release.",
                source=(
                    "UC1 (specified); cinder-api down in Nova's clean-up (made); an uninitialised "
                    "driver (made)."
                ),
                use_case=UseCase.UC1,
            ),
            Rule(
                "UC5.held",
                Verdict.TERMINATE,
                ("our own reserve keeps new attachments out until no connection is left over"),
                when=(
                    facts.attaching,
                    facts.no_attachments,
                    facts.no_block_device_or_host_uses_nothing,
                    facts.reserve_is_ours,
                ),
                where_blind=(
                    "our own reserve keeps new attachments out until the driver reports a release; "
                    "the backend cannot be seen"
                ),
                meant=(
                    "A plan for UC5 of this case is under way, or a crash broke it off. The "
                    "reserve keeps other servers out meanwhile."
                ),
                done=(
                    "Terminate; where the backend is clean already, only the reserve is released."
                ),
                source="Our own plan for UC5.",
                use_case=UseCase.UC5,
            ),
            Rule(
                "UC1.bare-reserve",
                Verdict.RELEASE,
                "the volume is reserved in the way that makes no row, and Nova holds nothing",
                when=(
                    facts.attaching,
                    facts.no_attachments,
                    facts.no_block_device,
                    facts.attach_without_attachment_id,
                ),
                meant="An attach of the old kind that never finished.",
                done="Release.",
                source="UC1 as it was in 2015 (specified).",
                use_case=UseCase.UC1,
            ),
            Rule(
                "UC3.released-in-nova",
                Verdict.RELEASE,
                "Nova has released the volume, but Cinder still says detaching",
                when=(facts.detaching, facts.no_other_attachment, facts.no_block_device),
                meant="Nova has released the volume and Cinder was not told.",
                done="Release.",
                source=(
                    "UC3 (specified); an instance deleted while the backend timed out and "
                    "finished later (made)."
                ),
                use_case=UseCase.UC3,
            ),
            Rule(
                "UC3.failed-detach",
                Verdict.RELEASE,
                (
                    "a detach failed at its end: its row is in error, Nova holds nothing, and "
                    "Cinder's status went back to in-use"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_in_error_detaching,
                    facts.no_other_attachment,
                    facts.no_block_device,
                ),
                meant="The row in error is the wish to detach, and nobody uses the volume.",
                done="Release; in-use keeps others out meanwhile.",
                source="A driver that was not initialised during a detach; `reset-state` (read).",
                use_case=UseCase.UC3,
            ),
            Rule(
                "UC3.let-go-in-use",
                Verdict.RELEASE,
                (
                    "the messages tell of the detach of this very attachment, Nova holds nothing "
                    "and the backend lets nobody in, but its row is left and Cinder says in-use"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.no_other_attachment,
                    facts.server_exists,
                    facts.no_block_device,
                    facts.detach_of_this_row,
                    facts.no_connection,
                ),
                meant=(
                    "Nova does not always make a volume detaching before it detaches it: not where "
                    "the server is shelved and offloaded. Or the wish was taken back by hand after "
                    "the guest had let go."
                ),
                done="Release. Where anybody is let in, a person decides (`P23.no-device`).",
                source=(
                    "A detach from a server that is shelved and offloaded, which goes on where "
                    "Cinder fails (nova/compute/api.py); `os-roll_detaching` (read)."
                ),
                use_case=UseCase.UC3,
            ),
            Rule(
                "UC3.host-let-go",
                Verdict.RELEASE,
                (
                    "the row is no server's, its client asked for the detach, and the backend lets "
                    "nobody in"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_of_no_server,
                    facts.no_other_attachment,
                    facts.detach_of_this_row,
                    facts.no_connection,
                ),
                meant=(
                    "A host, or a client that is not Nova, had the volume attached and asked for "
                    "the detach; the backend has let it go and Cinder was not told. There is no "
                    "server to ask about, but nobody can write."
                ),
                done="Release. Where anybody is let in, a person decides (`P4.no-instance`).",
                source=(
                    "Standalone Cinder, `os-attach` with a host name, the last call of a detach "
                    "lost (read)."
                ),
                use_case=UseCase.UC3,
            ),
            Rule(
                "UC3.row-in-error",
                Verdict.RELEASE,
                (
                    "a detach failed at its end: the volume is available and the backend clean, "
                    "and only the row in error is left, of which Nova holds nothing"
                ),
                when=(
                    facts.available,
                    facts.attachment_is_in_error_detaching,
                    facts.no_other_attachment,
                    facts.no_block_device,
                    facts.no_connection,
                ),
                meant="The removal of the export failed, and the row that says so was left.",
                done=(
                    "Release of that row in Cinder alone: the volume is free, so that its host may "
                    "be given it anew at any time."
                ),
                source="A driver whose removal of the export failed in a detach (read).",
                use_case=UseCase.UC3,
            ),
            Rule(
                "UC1.row-left",
                Verdict.RELEASE,
                (
                    "the attach never finished and Nova holds nothing; the status was reset by "
                    "hand: the volume is available, the backend clean, and only the row is left"
                ),
                when=(
                    facts.available,
                    facts.attachment_is_unfinished,
                    facts.no_other_attachment,
                    facts.no_block_device,
                    facts.no_connection,
                ),
                meant=(
                    "An attach was stuck, a person reset the status alone, and its row was left: "
                    "Cinder itself makes no volume available that has such a row. The next attach "
                    "would make a second one beside it."
                ),
                done=(
                    "Release of that row in Cinder alone: the volume is free, so that its host may "
                    "be given it anew at any time."
                ),
                source="`reset-state --state available` of a volume that was attaching (read).",
                use_case=UseCase.UC1,
            ),
            Rule(
                "UC5.leaked",
                Verdict.TERMINATE,
                (
                    "Cinder says available and Nova holds nothing, but the backend has a "
                    "connection of the host"
                ),
                when=(
                    facts.available,
                    facts.no_attachments,
                    facts.no_block_device,
                    facts.access_left,
                ),
                where_blind=(
                    "Cinder says available and Nova holds nothing, but Cinder deleted its row "
                    "without asking the backend, as far as the messages tell, and that cannot be "
                    "seen: an export may be left"
                ),
                meant=(
                    "The backend finished the attach after all callers had given up, and "
                    "no message reported it."
                ),
                done="Terminate.",
                source="UC5 (specified); a backend that hung for longer than all tries (made).",
                use_case=UseCase.UC5,
            ),
            Rule(
                "UC5.ghost",
                Verdict.TERMINATE,
                (
                    "Cinder says available and has no attachment, the backend has a connection "
                    "of one compute host, and Nova proves that no server may be using the volume "
                    "there"
                ),
                when=(facts.available, facts.only_its_own_connections, facts.host_uses_nothing),
                meant=(
                    "An export was left behind, and no message named the server that it was for."
                ),
                done=(
                    "Terminate, of that host's connection. A session is still guarded "
                    "(`LIVE_SESSION`): Nova's records say nothing of a guest that runs on after "
                    "its server was deleted."
                ),
                source=(
                    "A removal of the export that failed and was only logged (read); a call that "
                    "finished after the bus had lost its messages; what a sweep finds and no "
                    "notification reported. [Why it may be "
                    "ended](decisions/0011-nova-s-word-for-a-host.md)."
                ),
                use_case=UseCase.UC5,
            ),
            Rule(
                "UC5.leaked-beside-others",
                Verdict.TERMINATE,
                (
                    "the attachment is gone but the backend has a connection of its host, beside "
                    "others that are right"
                ),
                when=(
                    facts.reserved_or_in_use,
                    facts.no_attachment,
                    facts.no_block_device,
                    facts.access_left,
                    facts.other_attachments_named,
                ),
                unless=(facts.shared_host,),
                where_blind=(
                    "the attachment is gone, but Cinder deleted its row without asking the "
                    "backend, as far as the messages tell, and that cannot be seen: an export for "
                    "its host may be left, beside others that are right"
                ),
                meant="One connection of several was left.",
                done=(
                    "The driver ends that one; Cinder's records are right already. A driver that "
                    "acts through Cinder cannot: for a person."
                ),
                source="A second attach of a multiattach volume that hung (made).",
                use_case=UseCase.UC5,
            ),
        ),
    ),
    Section(
        "Left-overs of live migrations and of multiattach",
        (
            Rule(
                "UC5.left-by-migration",
                Verdict.TERMINATE,
                (
                    "a live migration ended and its row is gone, but the backend has a connection "
                    "of its host, on which Nova proves that no server may be using the volume"
                ),
                when=(
                    facts.in_use,
                    facts.no_attachment,
                    facts.server_moved_away,
                    facts.no_device_without_attachment,
                    facts.other_attachments_named,
                    facts.only_its_own_connections,
                    facts.its_host_uses_nothing,
                ),
                unless=(facts.shared_host,),
                meant=(
                    "The destination's access of a migration that was given up, or the source's "
                    "of one that went well: the clean-up deleted the row, and the access stayed."
                ),
                done=(
                    "The driver ends that one. A session is guarded (`LIVE_SESSION`): a guest may "
                    "run there that Nova's records do not show."
                ),
                source="A driver whose removal of an export failed and was only logged (read).",
                use_case=UseCase.UC5,
            ),
            Rule(
                "S1.stray-row",
                Verdict.RELEASE,
                (
                    "an unfinished row that no block device names is left beside rows that are in "
                    "order, or over"
                ),
                when=(
                    facts.no_detach_under_way,
                    facts.attachment_is_unfinished,
                    facts.server_exists_or_clean,
                    facts.other_attachments_in_order,
                ),
                unless=(
                    facts.named_by_device,
                    facts.device_without_attachment,
                    facts.kept_for_a_revert,
                ),
                meant=(
                    "The destination's row of a live migration that was rolled back, or the "
                    "failed second attach of a multiattach volume, whose server may be deleted "
                    "since."
                ),
                done="Release of that row alone; Cinder sets the status by those that are left.",
                source="A destination that timed out (made).",
            ),
            Rule(
                "S2.left-on-source",
                Verdict.RELEASE,
                "the source's row was left behind by a live migration that went well",
                when=(*facts.LEFT_BEHIND, facts.recorded_host_up),
                unless=facts.NOT_LEFT_BEHIND,
                meant="The source's row outlived a live migration that went well.",
                done="Release of that row alone.",
                source="A failing backend after the migration (made).",
            ),
            Rule(
                "S3.deleted-with-server",
                Verdict.RELEASE,
                (
                    "the server is deleted, its guest is proven to be gone, only the row was left "
                    "behind"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.no_other_attachment,
                    facts.server_gone,
                    facts.clean_or_guest_gone,
                ),
                meant=(
                    "The row outlived its server; Cinder's errors are swallowed when Nova "
                    "deletes one, and no message reports it."
                ),
                done="Release of that row.",
                source="An instance deleted while the backend failed (made).",
            ),
            Rule(
                "S4.deleted-beside-others",
                Verdict.RELEASE,
                (
                    "one of several servers is deleted, its guest is proven to be gone, its row is "
                    "left beside others that are in order, or over too"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.server_gone,
                    facts.clean_or_guest_ended,
                    facts.other_attachments_in_order,
                ),
                unless=(
                    facts.shared_connection,
                    facts.guest_lost_access,
                    facts.its_host_in_session,
                ),
                meant=(
                    "The row outlived its server; the other servers go on using the volume, or "
                    "are deleted too, and their rows come next."
                ),
                done=(
                    "Release of that row alone; Cinder then recomputes in-use. Not where its host "
                    "is in session: a server whose row was dropped may be on the same host."
                ),
                source="A multiattach volume, a server deleted while the backend failed (read).",
            ),
            Rule(
                "S5.let-go-beside-others",
                Verdict.RELEASE,
                (
                    "Nova has released the volume from the one server that the case is about, but "
                    "Cinder still says detaching; the others are right"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.server_exists,
                    facts.no_block_device,
                    facts.detach_of_this_case,
                    facts.other_attachments_in_order,
                ),
                unless=(facts.shared_host, facts.guest_lost_access),
                meant=(
                    "Cinder's status does not say of which attachment, but the messages do, and "
                    "every other one is in order or over."
                ),
                done="Release of that row alone; Cinder then recomputes in-use.",
                source="A multiattach volume, a detach whose last call failed (read).",
            ),
        ),
    ),
    Section(
        "Nothing to do, or nothing that a program should do",
        (
            Rule(
                ACCESS_LOST,
                Verdict.PARK,
                (
                    "Cinder and Nova say attached and the guest runs, but its host has no access "
                    "on the backend"
                ),
                when=(facts.in_use_or_reserved_anew, facts.guest_lost_access),
                meant=(
                    "Cinder and Nova look healthy, but a guest has lost its disk: the guest of "
                    "this attachment or of another one. Where other hosts have access, this is "
                    "seen only where the driver can tell hosts and the connector of the guest's "
                    "host is known."
                ),
                done=(
                    "Parked, and the reason names the host; to close it as healthy would hide it."
                ),
                source=(
                    "Drivers that drop the whole target when a second attachment fails, and give "
                    "access to the retry alone (made)."
                ),
            ),
            Rule(
                "P22.record-alone",
                Verdict.PARK,
                (
                    "Nova has a block device for the volume that names no attachment which Cinder "
                    "has; the backend lets nobody in, and Cinder gives the volume to nobody"
                ),
                when=(
                    facts.device_without_attachment,
                    facts.no_connection,
                    facts.no_attachment_is_attached,
                    facts.given_to_nobody,
                ),
                meant=(
                    "A record alone: no guest can be using the disk. A shelving, an unshelving or "
                    "a boot may need the row that is reserved."
                ),
                done="Parked: to drop the row or the record takes a person.",
                source="A row that is reserved beside a block device without its id (read).",
            ),
            Rule(
                "P35.wish-the-old-way",
                Verdict.PARK,
                (
                    "the wish to detach is on record and Nova has not carried it out; its block "
                    "device is of the kind that names no attachment, so that nothing proves which "
                    "one it is for"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.no_other_attachment,
                    facts.device_names_no_attachment,
                ),
                meant="A detach of an attachment from before Cinder had attachment ids.",
                done=(
                    "Parked: after `cinder reset-state --state in-use` the detach can be asked of "
                    "Nova again."
                ),
                source="Legacy attachments, a detach that came to nothing (read).",
            ),
            Rule(
                "P6.guest-holds",
                Verdict.PARK,
                (
                    "by Nova's records a server has the volume in use, or may have, in a way that "
                    "Cinder's do not show: the guest may be writing"
                ),
                when=(facts.guest_holds,),
                unless=("P22.record-alone", "P35.wish-the-old-way"),
                meant=(
                    "The guest may be writing to a volume that Cinder would give to the next "
                    "server: a status was reset by hand, or Nova kept a block device too long."
                ),
                done="Parked.",
                source=(
                    "`reset-state` (specified as the danger); a compute killed while Cinder "
                    "deleted the row (made)."
                ),
            ),
            Rule(
                "P9.unfinished-sibling",
                Verdict.PARK,
                (
                    "beside the attached row its server has an unfinished one that no task is "
                    "working on"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.second_attachment_is_unfinished,
                ),
                meant=(
                    "A shelving or migration broke off; after a broken shelving the guest is gone "
                    "though the server says active."
                ),
                done="Parked.",
                source="A shelving whose detach failed (made).",
            ),
            Rule(
                "P16.shelved-and-let-in",
                Verdict.PARK,
                (
                    "the server is shelved and offloaded, so it has no guest, but its attachment "
                    "has a host, or the backend has a connection"
                ),
                when=(
                    facts.server_shelved,
                    facts.reserved_or_in_use,
                    facts.named_by_device,
                    facts.attachment_is_reserved_or_attached,
                    facts.connected_while_shelved,
                ),
                where_blind=(
                    "the server is shelved and offloaded, so it has no guest, but its attachment "
                    "has a host; the backend cannot be seen"
                ),
                meant=(
                    "The server is on no host and has no guest, so nothing explains the "
                    "connection: a shelving broke off, or its guest was not ended."
                ),
                done="Parked.",
                source="A shelving whose detach came late (read).",
            ),
            Rule(
                "P21.nova-refuses",
                Verdict.PARK,
                (
                    "it is attached, as before: the wish to detach is on record, but Nova refuses "
                    "to detach from a server in this state; a person has to resume or unrescue it"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.has_guest,
                ),
                unless=(facts.nova_detaches,),
                meant=(
                    "The guest is suspended or rescued and keeps the disk. A roll-back would only "
                    "take the wish from Cinder, and Nova would refuse it (409)."
                ),
                done="Parked; after the server is active again, a replay asks Nova to detach.",
                source=("The states in which Nova takes a detach (nova/compute/api.py) (read)."),
            ),
            Rule(
                "P12.no-guest-to-ask",
                Verdict.PARK,
                (
                    "Nova's block device names the attachment, and the server never ran or is in "
                    "a state in which Nova detaches nothing: a person has to delete, reset or "
                    "unshelve the server"
                ),
                when=(facts.named_by_device,),
                unless=(facts.has_guest,),
                meant=(
                    "A boot or an unshelving broke off; the row may be legitimate until a person "
                    "deletes, resets or unshelves the server, and Nova detaches nothing "
                    "meanwhile."
                ),
                done="Parked.",
                source="Boot from volume (read).",
            ),
            Rule(
                "P13.broke-off",
                Verdict.PARK,
                (
                    "Nova's block device names a row that is not attached, and the backend has "
                    "no connection for it: an attach or a shelving broke off, and its guest has "
                    "no disk, or is gone"
                ),
                when=(facts.named_by_device, facts.attachment_is_unfinished),
                unless=(facts.connection_seen,),
                where_blind=(
                    "Nova's block device names a row that is not attached, and the backend "
                    "cannot be seen: an attach or a shelving may have broken off, and its guest "
                    "may have no disk, or be gone"
                ),
                meant=(
                    "An attach broke off before the backend was asked, or a shelving broke off. "
                    "After a shelving the guest is gone though the server says active, and its "
                    "other volumes are attached as before."
                ),
                done=(
                    "Parked: to roll it forward would call a volume attached that no guest has, "
                    "and Nova refuses to detach it."
                ),
                source=(
                    "A compute killed in the midst of an attach; the root disk of a server whose "
                    "shelving failed at another volume (made)."
                ),
            ),
            Rule(
                "P14.status-alone",
                Verdict.PARK,
                (
                    "the volume's only row and Nova say attached, but the volume's status does "
                    "not: it was set by hand, and a reset to in-use corrects it"
                ),
                when=(
                    facts.reserved_or_attaching,
                    facts.attachment_is_attached,
                    facts.named_by_device,
                    facts.no_other_attachment,
                ),
                meant=(
                    "A person reset the status alone. The volume is attached, and Cinder refuses "
                    "every detach."
                ),
                done=(
                    "Parked: `cinder reset-state --state in-use` corrects it and leaves the row "
                    "(with `--attach-status detached` it would drop it); the person who set the "
                    "status knows why."
                ),
                source="`reset-state` (made).",
            ),
            Rule(
                GUEST_NOT_ENDED,
                Verdict.PARK,
                (
                    "danger: the server was deleted without its compute, so that nothing shows "
                    "that its guest was ended; the backend cannot be seen, and Cinder lets others "
                    "have the volume: the guest may be writing"
                ),
                when=(facts.blind, facts.no_attachment, facts.deleted_without_its_guest),
                meant=(
                    "The compute was down and nova-api deleted the server's record alone, and its "
                    "attachment with it. The guest may run on, with the disk open. Where the "
                    "backend is seen, its session tells."
                ),
                done=(
                    "Parked: only a person can find out whether that host runs, or fence it, "
                    "before the volume is used again."
                ),
                source=(
                    "A server deleted while its compute was down (read). nova-api asks Cinder "
                    "with the id of the request that deletes the server."
                ),
            ),
            Rule(
                "C1.nothing-left",
                Verdict.CLEAN,
                (
                    "Cinder has no record of the attachment, Nova is not known to hold it, and the "
                    "backend is clean"
                ),
                when=(facts.no_attachment, facts.status_fits_other_attachments, facts.clean),
                unless=(facts.device_without_attachment, facts.unexplained_party),
                meant="Nothing is left.",
                done="Clean.",
                source="Failures that Nova cleaned up well (made).",
            ),
            Rule(
                "C2.nothing-left-blind",
                Verdict.CLEAN,
                (
                    "Cinder has no record of the attachment and Nova is not known to hold it; "
                    "the backend cannot be seen"
                ),
                when=(
                    facts.blind,
                    facts.no_leak_suspected,
                    facts.no_attachment,
                    facts.status_fits_other_attachments,
                ),
                unless=(
                    facts.device_without_attachment,
                    facts.unexplained_party,
                    facts.reset_by_hand,
                ),
                meant="Nothing is left, as far as Cinder and Nova can tell.",
                done="Clean, verified by the driver.",
                source="Backends without a driver that sees.",
            ),
            Rule(
                "P31.leak-unseen",
                Verdict.PARK,
                (
                    "Cinder deleted the row of this attachment without asking the backend, as far "
                    "as the messages tell, and that cannot be seen: its host may still be let in, "
                    "and the volume has other attachments"
                ),
                when=(
                    facts.blind,
                    facts.no_attachment,
                    facts.access_left,
                    facts.other_attachments,
                    facts.status_fits_other_attachments,
                ),
                unless=(facts.device_without_attachment, facts.unexplained_party),
                meant=(
                    "The destination's row of a live migration was given up while the backend was "
                    "being asked, or that of a second server on the same host. To end one "
                    "connection of several takes a driver that sees."
                ),
                done=(
                    "Parked: on the array a person can see whether the host still has access, "
                    "which must not be ended if another attachment of it needs it."
                ),
                source="A destination that timed out (made on a backend that is seen).",
            ),
            Rule(
                UNEXPLAINED,
                Verdict.PARK,
                (
                    "the attachment may be in order, but somebody else is on the volume, and no "
                    "record explains it"
                ),
                when=(facts.unexplained_holder, facts.reserved_or_in_use),
                meant=(
                    "An access, a live session, a block device or a guest beside what Cinder and "
                    "Nova agree on: the left-over of a live migration or of a detach that Cinder "
                    "says ended, or a second user of the volume."
                ),
                done=(
                    "Parked, and the reason names each. Healthy or clean is said only where every "
                    "party of the volume is explained."
                ),
                source="Accesses that were left by a migration that failed or went well (read).",
            ),
            Rule(
                LEFT_OVER,
                Verdict.PARK,
                (
                    "this attachment is in order, but another one of the volume is left over: no "
                    "block device explains it, and nobody is at work on it"
                ),
                when=(
                    facts.unexplained_attachment,
                    facts.reserved_or_in_use,
                    facts.others_left_over,
                ),
                unless=(facts.wrong_attachment_named, facts.unexplained_own),
                meant=(
                    "The other row's server is deleted, or does not name it, and its messages were "
                    "lost or were never sent. Nothing will change by itself."
                ),
                done=(
                    "Parked, and the reason names it; where that attachment has a parked case of "
                    "its own, this one is joined to it."
                ),
                source="Multiattach, a server deleted while Cinder was down (read).",
            ),
            Rule(
                OTHER_UNEXPLAINED,
                Verdict.IN_FLIGHT,
                "another attachment of the volume is not explained by any block device",
                when=(facts.unexplained_attachment, facts.reserved_or_in_use),
                unless=(facts.wrong_attachment_named, facts.unexplained_own),
                meant=(
                    "This attachment is in order, but another row of the volume is being made, or "
                    "a case of its own is at work on it."
                ),
                done="In-flight.",
                source="Multiattach, a server deleted while Cinder was down (read).",
            ),
            Rule(
                "P23.no-device",
                Verdict.PARK,
                (
                    "Cinder says attached, and Nova has no block device of the server for the "
                    "volume: either record may be the wrong one, and the guest may be using it"
                ),
                when=(
                    facts.no_detach_under_way,
                    facts.attachment_is_attached,
                    facts.server_exists,
                    facts.no_block_device,
                ),
                meant=(
                    "Nova released the volume and Cinder was not told, or somebody wrote the "
                    "status or the row by hand, or Nova lost its record of a volume that the guest "
                    "uses. Cinder's status does not say that it is to be detached."
                ),
                done="Parked: a detach has to be asked for, or Cinder's record be dropped.",
                source="`reset-state` to in-use of a volume that nobody has (read).",
            ),
            Rule(
                STATUS_WITHOUT_ROW,
                Verdict.PARK,
                (
                    "Cinder calls the volume reserved or in-use and has no attachment of it, and "
                    "the backend has no connection: nothing but the status is left, and only a "
                    "person can correct it"
                ),
                when=(
                    facts.reserved_or_in_use,
                    facts.no_attachments,
                    facts.no_block_device_known,
                ),
                unless=(facts.connection_seen, facts.guest_holds),
                where_blind=(
                    "Cinder calls the volume reserved or in-use and has no attachment of it; the "
                    "backend cannot be seen"
                ),
                meant=(
                    "A reserve broke off before its row was made, a detach was rolled back after "
                    "its row was gone, or the status was set by hand. Nova refuses to attach it "
                    "and to detach it."
                ),
                done=(
                    "Parked: no call of Cinder's undoes this on a condition. "
                    "`cinder reset-state --state available` frees it, once it is sure that nobody "
                    "uses it."
                ),
                source=(
                    "A reserve whose row was never written (cinder/volume/api.py "
                    "`_attachment_reserve`); `os-roll_detaching`, which asks for no row (read)."
                ),
            ),
            Rule(
                "P26.let-go-on-a-shared-host",
                Verdict.PARK,
                (
                    "Nova has let go of one of several servers, Cinder still says detaching, and "
                    "another server of the same host uses the volume, or may: one connection "
                    "serves both, and to end it would take the disk from the other one"
                ),
                when=(
                    facts.detaching,
                    facts.attachment_is_attached,
                    facts.server_exists,
                    facts.no_block_device,
                    facts.shared_host,
                ),
                meant=(
                    "The guest has let go and only Cinder's row is left. Cinder keeps the "
                    "connection of a host for its other attachments only where the backend's own "
                    "driver counts them, which no look shows."
                ),
                done=(
                    "Parked: where that driver counts the attachments of a host, "
                    "`cinder attachment-delete` of the one that is named ends it."
                ),
                source="A multiattach volume, two servers of one host, one detach failed (read).",
            ),
            Rule(
                "P24.deleted-on-a-shared-host",
                Verdict.PARK,
                (
                    "the server is deleted and its row is left, and another server of the same "
                    "host uses the volume, or may, so that the backend cannot show that the "
                    "deleted one's guest does not"
                ),
                when=(facts.server_gone, facts.has_attachment, facts.shared_connection),
                where_blind=(
                    "the server is deleted and its row is left, another server of the same host "
                    "uses the volume, or may, and the backend cannot be seen"
                ),
                meant=(
                    "Two servers of one host share its one connection, which says nothing of "
                    "either guest."
                ),
                done="Parked: Cinder keeps the connection for the other server's sake.",
                source="A multiattach volume, one of two servers deleted (read).",
            ),
            Rule(
                "P7.foreign-connection",
                Verdict.PARK,
                (
                    "the backend has a connection that no record explains, as far as its driver "
                    "can tell"
                ),
                when=(facts.foreign_connection,),
                meant=(
                    "It may be the leak of a host whose connector was never seen, or a "
                    "connection that another client needs."
                ),
                done="Parked.",
                source="A missing record (read).",
            ),
            Rule(
                "P36.second-row",
                Verdict.PARK,
                (
                    "Cinder has two rows of the server that are attached, Nova names the other "
                    "one, and nothing shows that the guest is on another host than that of this "
                    "one"
                ),
                when=(
                    facts.in_use,
                    facts.attachment_is_attached,
                    facts.second_attachments_are_good,
                ),
                unless=(facts.named_by_device, facts.device_without_attachment),
                meant=(
                    "Two attaches of one volume to one server at once, or a live migration between "
                    "computes that the backend takes for one. One connection may serve both rows."
                ),
                done=(
                    "Parked: where that host's connection is another than the guest's, or the "
                    "backend's driver counts the rows of a host, `cinder attachment-delete` of "
                    "this one ends it."
                ),
                source="Cinder bug 1833736, computes that were cloned (read).",
            ),
            Rule(
                "P39.row-left",
                Verdict.PARK,
                (
                    "Cinder gives the volume to others although a row of it says that it is "
                    "attached; Nova's block devices and the backend show nobody who has it"
                ),
                when=(facts.available, facts.row_left, facts.no_connection),
                meant=(
                    "A detach was stuck, a person reset the status alone, and the row is left. The "
                    "next attach would make a second one beside it."
                ),
                done=(
                    "Parked: `cinder attachment-delete` of the row ends it. It also ends the "
                    "access of the row's host, which may be given the volume anew at any time."
                ),
                source="`reset-state --state available` of a volume that was detaching (read).",
            ),
            Rule(
                "P37.half-done",
                Verdict.PARK,
                (
                    "Nova's block device names a row that is not attached, the backend has a "
                    "connection, and the volume's status or another row does not fit: nothing "
                    "shows whether the attach is to be completed or undone"
                ),
                when=(facts.named_by_device, facts.attachment_is_unfinished),
                where_blind=(
                    "Nova's block device names a row that is not attached, and the volume's status "
                    "or another row does not fit: nothing shows whether the attach is to be "
                    "completed or undone"
                ),
                meant=(
                    "Its connection was ended or its reserve given back through Cinder by hand, or "
                    "the status was written by hand, while the guest was getting the disk."
                ),
                done=(
                    "Parked: where the guest has the disk, `cinder attachment-complete` of the row "
                    "makes it attached."
                ),
                source="`os-unreserve`, `reset-state` in the midst of an attach (read).",
            ),
            Rule(
                "P38.failed-and-named",
                Verdict.PARK,
                (
                    "a detach failed in Cinder and left its row in error, but Nova's block device "
                    "names the row: the guest may have the disk"
                ),
                when=(facts.named_by_device, facts.attachment_is_in_error_detaching),
                meant="Nova keeps its record where Cinder fails, whether the guest let go or not.",
                done=(
                    "Parked: with `cinder reset-state --state in-use` the detach may be asked of "
                    "Nova again."
                ),
                source="A driver that was not initialised during a detach (read).",
            ),
            Rule(
                "P0.not-understood",
                Verdict.PARK,
                "no rule knows this combination",
                when=(),
                meant="Unknown.",
                done="Parked, with the evidence.",
                source="A situation that was never seen.",
            ),
        ),
    ),
)
RULES = tuple(rule for section in SECTIONS for rule in section.rules)
PAGE = (BEFORE, *SECTIONS)
