"""Files of the cache that are only believed if no other user can have written them."""

import os
import stat
from contextlib import suppress
from pathlib import Path


def make_private(folder: Path) -> bool:
    """Make a directory that this user alone may write to; return whether it is one."""
    if os.name != "posix":
        return True
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        return folder.stat().st_uid == os.getuid()
    return False


def is_own(path: Path) -> bool:
    """Tell whether there is a regular file that no other user can have written."""
    try:
        status = path.lstat()
    except OSError:
        return False
    ours = os.name != "posix" or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return ours and stat.S_ISREG(status.st_mode)
