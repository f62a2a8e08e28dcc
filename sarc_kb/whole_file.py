"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a stream whose bytes become the file ``path`` at the end, or, where something is raised,
    leave ``path`` as it was. A link stays a link; a device or a pipe is written to as it is.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    try:
        if path.exists() and not path.is_file():
            # It has no "whole", and must not be replaced by a file.
            with path.open("wb") as stream:
                yield stream
            return
        target = path.resolve()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".sarc-kb-")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
