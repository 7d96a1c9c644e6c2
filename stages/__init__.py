"""One module a DVC stage, named as the stage is: load, call, save, log."""

import os
import sys

if "STAGES_PRELOADED" in os.environ and sys.argv[0] == "-m":  # the command of a stage, and its module comes next
    from stages import preload

    preload.run(sys.orig_argv[2:])
