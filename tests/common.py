"""Values and helpers that several tests share."""

import io
import tarfile

from stagebench.preprocessing import Preprocessing

ARCHITECTURE = "tiny.tiny_resnet"
PREPROCESSING = Preprocessing().model_dump(mode="json")
IMAGES = 32


def pack_archive(path, members, form=tarfile.USTAR_FORMAT):
    """Write a tar archive of (name, contents); contents may be the type of a member that holds none. Return `path`."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            if data in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
                entry.type, entry.linkname = data, "/etc/passwd"
                tar.addfile(entry)
            else:
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path
