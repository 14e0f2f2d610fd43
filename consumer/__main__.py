"""``python -m consumer`` is ``detachd``."""

import sys

from consumer.cli.app import main

sys.exit(main())
