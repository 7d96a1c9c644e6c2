"""DVC's command line, as a command of this package: so it can start with its libraries loaded."""

import sys

from dvc.cli import main

if __name__ == "__main__":
    sys.exit(main())
