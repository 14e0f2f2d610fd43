"""Everything outside the process that is looked at or acted on.

How to write a storage driver
=============================

A driver is a class in a package of your own; nothing in detachd changes for it. A whole one, with
a backend, a test and a wheel, is in ``examples/detachd-shelf``: copy that.

**What it is asked.** ``drivers/base.py`` is the contract, and short. One object serves one Cinder
backend (``host@backend``) and every thread that works a case of it. ``observe`` shows who is
connected to a volume; ``terminate_connection`` revokes one host's access and then ends its
sessions, in this order, and then looks until nothing is left or the time is up; ``detach`` removes
what the backend made for the attachment. ``force_detach`` is the one that the service calls; its
default is the latter two, one after the other. Each call has a time limit, makes no second try of
its own, and leaves all other hosts alone.

**Where it looks.** Under every name that the volume may have: ``VolumeRef.names`` has those by
Cinder's ``volume_name_template``, the migrated one first (``check_template`` checks such an option,
``id_in`` reads a name back); ``provider_location`` says more where Cinder's driver fills it. A
volume that is found under none is *unknown* (``NotFoundError``), and so is one that was looked for
on the wrong port or in the wrong pool. "No host is connected" is the strongest answer in the
service: after it Cinder gives the volume to the next server. So an observation has a ``control``,
the proof that the right place was asked: the daemon answered and knows the volume, or one that is
known to be there.

**How it fails.** ``drivers/errors.py`` has three kinds, sorted by whether the call may have acted.
``TransientError``: surely not (the connection was refused). ``IndeterminateError``: perhaps, or it
may still (no answer after the request was sent: a frozen daemon does it on the thaw).
``PermanentError``: refused with nothing done, and will be again. What fails when a part is done is
``IndeterminateError``. A timeout is never success and never "no connection". The text is for
operators, and may be published: no password, no connection info. What is already released is
success.

**What it declares.** ``capabilities``: each one changes what the service does, as
``drivers.base.Capabilities`` says; a driver that declares less is used for less. ``opts``: its
options, as ``oslo.config`` ones with a help, ``secret=True`` where they are. Operators set them in
``[driver:NAME]``, or ``[driver:NAME:HOST@BACKEND]`` for one backend; they are checked when the
service starts, show in the sample configuration, and come to the constructor as values. The
constructor opens nothing; options that do not go together are a ValueError in an operator's words.

**How it is tested.** ``pip install 'detachd[conformance]'`` brings pytest and
``drivers.conformance``: some seventy clauses, each a situation and its consequence. You write one
class, a ``Ground``, that does things to a private instance of your backend (create a volume,
connect a host, freeze it, look past the driver), and the suite does the rest. What your backend
cannot show is skipped, with your reason. ``drivers.registry.parsed`` turns a dictionary into the
constructor's options. Use the real backend: a fake only shows that your driver agrees with you.

**How it is found.** By an entry point of your package::

    [project.entry-points."detachd.storage_drivers"]
    mine = "my_package.driver:MyDriver"

and ``driver = mine`` in ``[backend_defaults]`` or ``[backend:HOST@BACKEND]``, where its time limits
(``look_timeout_seconds``, ``call_timeout_seconds``) and how many cases of it are worked at once
(``concurrency``) stand as well. With ``run_in = process`` each call has a process for itself, and
several processes have a driver each: keep nothing in memory that one call needs from another. For a
name that is not installed, the error lists those that are.
"""
