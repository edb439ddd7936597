"""`python -m redraft`: the command line."""

import sys

from redraft.cli import main

sys.exit(main())
