"""Are the names of one's own files such as DVC can hold? It ends on others without saying which."""

import os
from pathlib import Path

from pipeline.params import Data
from pipeline.project.errors import PipelineError


def check(data: Data) -> None:
    """Raises PipelineError on the first name that is no UTF-8 text, as of an old archive unpacked."""
    for folder in dict.fromkeys((data.path, data.unlabelled)):
        for root, folders, names in os.walk(folder):
            for name in (*folders, *names):
                try:
                    name.encode()
                except UnicodeEncodeError:
                    path = str(Path(root, name)).encode(errors="backslashreplace").decode()
                    raise PipelineError(
                        f"{path} has a name that is no UTF-8 text, which DVC needs; rename it."
                    ) from None
