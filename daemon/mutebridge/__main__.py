"""`python -m mutebridge`: the same as the `mutebridge` command."""

import sys

from mutebridge.cli import main

sys.exit(main())
