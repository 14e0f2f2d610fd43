"""The process: how a notification arrives, survives, is worked and is announced."""

import os
import warnings

# oslo.messaging imports oslo.service, which loads eventlet where it is installed and thereby warns
# on stderr. Nothing of ours runs on it. Without its name resolver it is imported in half the time,
# which is a tenth of what a command takes to start.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
