"""The process: how a notification arrives, survives, is worked and is announced."""

import warnings

# oslo.messaging imports oslo.service, which loads eventlet where it is installed and thereby warns
# on stderr. Nothing of ours runs on it.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
