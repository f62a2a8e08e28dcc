"""``python -m sarc_kb.cli`` is the command line."""

import sys

from sarc_kb.cli import main

if __name__ == "__main__":
    sys.exit(main())
