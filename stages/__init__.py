"""One module a DVC stage, named as the stage is: load, call, save, log."""

import gc
import os
import sys

if sys.argv[0] == "-m":  # the command of a stage, and its module comes next
    gc.disable()  # until it has imported what it needs: to walk a million such objects frees nothing
    if "STAGES_PRELOADED" in os.environ:
        from stages import preload

        preload.run(sys.orig_argv[2:])
