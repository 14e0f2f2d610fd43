"""What each recorded notification means, a line for each in order of arrival.

``event_type -`` is not used. Otherwise: event_type, operation, phase, and the first eight
characters of volume, instance and proven attachment, ``-`` where the message tells none.
"""

MEANINGS = {
    "cinder/attaching_new__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 2eeea8cb - 47c148be
        volume.detach.start detach start 2eeea8cb - 47c148be
        volume.detach.end detach end 2eeea8cb - -
        """,
    "cinder/detaching_new__fd_ca.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 3489e9cf - 90b9294f
        volume.attach.end attach end 3489e9cf - 90b9294f
        volume.detach.start detach start 3489e9cf - 90b9294f
        volume.detach.end detach end 3489e9cf - -
        """,
    "cinder/detaching_old__fd_c.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start f4388f6a - -
        volume.attach.end attach end f4388f6a - 1776279f
        volume.detach.start detach start f4388f6a - 1776279f
        volume.detach.end detach end f4388f6a - -
        """,
    "cinder/e_uc5early_put__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 31053e38 - 2fea11cf
        volume.detach.start detach start 31053e38 - 2fea11cf
        volume.detach.end detach end 31053e38 - -
        """,
    "cinder/error_attaching_new__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 8627b123 - bfc46bac
        volume.detach.start detach start 8627b123 - bfc46bac
        volume.detach.end detach end 8627b123 - -
        """,
    "cinder/inuse_new__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 8accdb5c - 58c71a67
        volume.attach.end attach end 8accdb5c - 58c71a67
        volume.detach.start detach start 8accdb5c - 58c71a67
        volume.detach.end detach end 8accdb5c - -
        """,
    "cinder/k_svctoken_del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 7494884d 96efba24 bbc232ff
        volume.attach.end attach end 7494884d 96efba24 bbc232ff
        volume.detach.start detach start 7494884d 96efba24 bbc232ff
        volume.detach.end detach end 7494884d - -
        """,
    "cinder/l_uc5late_put__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start cbc06c82 - f732f73c
        volume.detach.start detach start cbc06c82 - f732f73c
        volume.detach.end detach end cbc06c82 - -
        """,
    "cinder/m_multiattach__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 3bafdc1e - f5c643eb
        volume.attach.end attach end 3bafdc1e - f5c643eb
        volume.attach.start attach start 3bafdc1e - 86fda728
        volume.attach.end attach end 3bafdc1e - -
        volume.detach.start detach start 3bafdc1e - -
        volume.detach.end detach end 3bafdc1e - -
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 7d0634be - 90112c4a
        volume.attach.end attach end 7d0634be - 90112c4a
        volume.attach.start attach start 7d0634be - cf60ac29
        volume.attach.end attach end 7d0634be - -
        volume.detach.start detach start 7d0634be - -
        volume.detach.end detach end 7d0634be - -
        """,
    "cinder/reserved_new__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.detach.start detach start 2700c301 - ac3b1b49
        volume.detach.end detach end 2700c301 - -
        """,
    "cinder/uc5_available__fd_c.jsonl": """
        volume.create.start -
        volume.create.end -
        """,
    "cinder/uc5_put__del.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 8c5fcad7 - eaff3a01
        volume.detach.start detach start 8c5fcad7 - eaff3a01
        volume.detach.end detach end 8c5fcad7 - -
        """,
    "cinder/x_fd_terminate_raises__fd_ca.jsonl": """
        volume.create.start -
        volume.create.end -
        volume.attach.start attach start 9fe780be - 41aa4f30
        volume.attach.end attach end 9fe780be - 41aa4f30
        """,
    "nova-compute/b_hang_60.jsonl": """
        volume.create.start -
        volume.create.end -
        instance.volume_attach.start attach start 78c528f6 80aed157 -
        volume.attach.start attach start 78c528f6 80aed157 2b6c3a5b
        volume.attach.start attach start 78c528f6 80aed157 2b6c3a5b
        volume.attach.start attach start 78c528f6 80aed157 2b6c3a5b
        volume.attach.start attach start 78c528f6 80aed157 2b6c3a5b
        volume.attach.start attach start 78c528f6 80aed157 2b6c3a5b
        volume.detach.start detach start 78c528f6 80aed157 2b6c3a5b
        volume.detach.end detach end 78c528f6 - -
        instance.volume_attach.error attach error 78c528f6 80aed157 -
        attach_volume attach error 78c528f6 80aed157 2b6c3a5b
        compute.exception - error - - -
        """,
    "nova-compute/c_hang_once.jsonl": """
        volume.create.start -
        volume.create.end -
        instance.volume_attach.start attach start 613acd28 5c55b813 -
        volume.attach.start attach start 613acd28 5c55b813 4714c283
        volume.attach.start attach start 613acd28 5c55b813 4714c283
        volume.attach.end attach end 613acd28 5c55b813 4714c283
        compute.instance.volume.attach attach end 613acd28 5c55b813 -
        instance.volume_attach.end attach end 613acd28 5c55b813 -
        """,
    "nova-compute/f_terminate_raises.jsonl": """
        volume.create.start -
        volume.create.end -
        instance.volume_attach.start attach start e1a7162c a074d513 -
        volume.attach.start attach start e1a7162c a074d513 fda296f4
        volume.attach.end attach end e1a7162c a074d513 fda296f4
        compute.instance.volume.attach attach end e1a7162c a074d513 -
        instance.volume_attach.end attach end e1a7162c a074d513 -
        instance.volume_detach.start detach start e1a7162c a074d513 -
        volume.detach.start detach start e1a7162c a074d513 fda296f4
        volume.detach.start detach start e1a7162c a074d513 fda296f4
        volume.detach.start detach start e1a7162c a074d513 fda296f4
        volume.detach.start detach start e1a7162c a074d513 fda296f4
        volume.detach.start detach start e1a7162c a074d513 fda296f4
        detach_volume detach error e1a7162c a074d513 fda296f4
        compute.exception - error - - -
        """,
    "nova-compute/o_healthy.jsonl": """
        volume.create.start -
        volume.create.end -
        instance.volume_attach.start attach start 470621de b2a74929 -
        volume.attach.start attach start 470621de b2a74929 c0af268e
        volume.attach.end attach end 470621de b2a74929 c0af268e
        compute.instance.volume.attach attach end 470621de b2a74929 -
        instance.volume_attach.end attach end 470621de b2a74929 -
        instance.volume_detach.start detach start 470621de b2a74929 -
        volume.detach.start detach start 470621de b2a74929 c0af268e
        volume.detach.end detach end 470621de - -
        compute.instance.volume.detach detach end 470621de b2a74929 -
        instance.volume_detach.end detach end 470621de b2a74929 -
        """,
    "nova/attach_fail-0-instance.volume_attach.start.json": """
        instance.volume_attach.start attach start 220155c0 db4eed7b -
        """,
    "nova/attach_fail-1-instance.volume_attach.error.json": """
        instance.volume_attach.error attach error 220155c0 db4eed7b -
        """,
    "nova/attach_fail-2-compute.exception.json": """
        compute.exception -
        """,
    "nova/attach_fail-legacy-0-attach_volume.json": """
        attach_volume attach error 220155c0 db4eed7b ee0b85ac
        """,
    "nova/detach_cinder-0-instance.volume_detach.start.json": """
        instance.volume_detach.start detach start 220155c0 fae4bc3c -
        """,
    "nova/detach_cinder-1-compute.exception.json": """
        compute.exception -
        """,
    "nova/detach_cinder-legacy-0-detach_volume.json": """
        detach_volume detach error 220155c0 fae4bc3c ee0b85ac
        """,
    "nova/detach_guest-0-instance.volume_detach.start.json": """
        instance.volume_detach.start detach start 220155c0 4f9a91dc -
        """,
    "nova/detach_guest-1-compute.exception.json": """
        compute.exception -
        """,
    "nova/detach_guest-legacy-0-detach_volume.json": """
        detach_volume detach error 220155c0 4f9a91dc ee0b85ac
        """,
    "nova/detach_ok-0-instance.volume_detach.start.json": """
        instance.volume_detach.start detach start 220155c0 365c2de7 -
        """,
    "nova/detach_ok-1-instance.volume_detach.end.json": """
        instance.volume_detach.end detach end 220155c0 365c2de7 -
        """,
    "nova/detach_ok-legacy-0-compute.instance.volume.detach.json": """
        compute.instance.volume.detach detach end 220155c0 365c2de7 -
        """,
}
