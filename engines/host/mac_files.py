"""What macOS does with files that other systems don't: privacy settings, files that lie in the cloud.

Each is decided by what the system tells, not by its name, so that both sides can be tried anywhere.
"""

import errno
import os

SF_DATALESS = 0x40000000  # sys/stat.h: the file's content isn't on this machine

PRIVACY = (
    "macOS keeps it from the program that started this service. Allow it in System Settings, Privacy & Security, "
    "Files and Folders (or Full Disk Access), and start the service again"
)
IN_THE_CLOUD = "its content lies in the cloud alone. Download it first (in Finder: Download Now), and try again"


def reason(error: OSError) -> str:
    """Why a file or folder can't be opened, for people.

    Permissions give EACCES; EPERM, for a file that is opened, is what the privacy settings of macOS (TCC) give.
    """
    return PRIVACY if error.errno == errno.EPERM else error.strerror or "it can't be opened"


def is_in_cloud(status: os.stat_result) -> bool:
    """Whether reading would wait for a download, for as long as that takes."""
    return bool(getattr(status, "st_flags", 0) & SF_DATALESS)
