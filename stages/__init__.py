"""One module a DVC stage, named as the stage is: load, call, save, log."""
