"""`python -m longreward` is the command `longreward`."""

import sys

from longreward.cli import main

sys.exit(main())
