"""Which client has the volume open for an attachment, where a look shows that all is well. Pure.

It is learned only from a look in which nothing else could be meant. At a failure the client that
was learned here is the one that may be fenced.

1. Cinder, Nova and the backend agree: attached with a connector, named by a block device of a
   running server that is on that very host, at rest, its compute not known to be down.
2. It is the one client of that host, with one session. Nobody else is on the volume, but for hosts
   that other rows explain; no other row may be on the same host.
3. So nothing is learned in a live migration (two rows, or a task of Nova's), of a shelved server,
   nor of a volume that Cinder backs up, retypes or migrates (its status or migration status).
"""

from __future__ import annotations

from datetime import datetime

from drivers.base import ClientInstance
from handlers.case import LearnedClient
from handlers.judgement import facts
from handlers.judgement.evidence import Fact
from handlers.judgement.rule import Diagnosis, Verdict
from handlers.judgement.situation import Situation

RUNNING = "active"


def client_to_learn(diagnosis: Diagnosis, seen_at: datetime) -> LearnedClient | None:
    """Return the client that a look shows to be the attachment's, None where it is not clear.

    ``seen_at`` is when the look was made.
    """
    s = diagnosis.situation
    if diagnosis.verdict is not Verdict.HEALTHY or s is None or not _is_in_use(s):
        return None
    client = _only_client(s, seen_at)
    host = s.attached_host
    if client is None or s.attachment is None or host is None:
        return None
    return LearnedClient(s.attachment.attachment_id, host, s.volume.ref.backend, client)


def _is_in_use(s: Situation) -> bool:
    row, server = s.attachment, s.server
    if row is None or server is None:
        return False
    recorded = facts.in_use(s) and facts.attachment_is_attached(s) and row.has_connection_info
    settled = not facts.volume_busy(s) and not s.siblings and not s.ambiguous
    running = server.vm_state == RUNNING and server.task_state is None
    there = s.on_host_of_its_server and server.compute_up is not False
    return recorded and settled and s.named_by_device and running and there


def _only_client(s: Situation, seen_at: datetime) -> ClientInstance | None:
    alone = not s.foreign and not s.nameless and not s.shared_host
    if not alone or s.connector is None or not isinstance(s.backend, Fact) or len(s.own) != 1:
        return None
    fenced = not s.own[0].access
    return None if fenced else s.backend.value.client_of(s.connector, seen_at)
