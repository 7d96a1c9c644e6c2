"""One module a DVC stage, named as the stage is: load, call, save, log."""

import gc
import os
import sys

if sys.argv[0] == "-m":  # the command of a stage, and its module comes next
    gc.disable()  # until pipeline.project.errors.run: it would walk a million imported objects and free nothing
    if "STAGES_PRELOADED" in os.environ:
        from stages import preload

        preload.run(sys.orig_argv[2:])
