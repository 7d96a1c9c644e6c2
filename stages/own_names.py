"""Are the names of one's own files such as DVC can hold? It ends on others without saying which."""

import os

from pipeline.params import Data
from pipeline.project import errors


def check(data: Data) -> None:
    """Raises PipelineError on the first name that is no UTF-8 text."""
    for folder in dict.fromkeys((data.path, data.unlabelled)):
        for root, folders, names in os.walk(folder):
            for name in (*folders, *names):
                errors.check_name(f"{root}/{name}")
