"""Takes from Debian's kernel package what the VM needs.

qemu can enter an unpacked vmlinux directly; unpacking a bzImage under emulation would cost four seconds of every boot.
"""

import lzma
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path


def vmlinux(bzimage: bytes) -> bytes:
    """Unpack the ELF kernel of a bzImage; offsets are those of the x86 boot protocol (the kernel's boot.rst)."""
    setup_sectors = bzimage[0x1F1] or 4
    payload_offset, payload_length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + payload_offset
    # The last four bytes of the payload are its unpacked size and belong to no compression format.
    payload = bzimage[start : start + payload_length - 4]
    if not payload.startswith(b"\xfd7zXZ\0"):
        raise ValueError(f"the kernel is not packed with xz: it begins with {payload[:6].hex()}")
    unpacked = lzma.LZMADecompressor().decompress(payload)
    if not unpacked.startswith(b"\x7fELF"):
        raise ValueError("the kernel's payload is no ELF file")
    return unpacked


class ModuleTree:
    """The modules of one unpacked kernel package, which has had `depmod`."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.folder = next((package / "lib/modules").iterdir())
        self.version = self.folder.name
        self._needs: dict[str, list[str]] = {}
        self._path_of: dict[str, str] = {}
        for line in (self.folder / "modules.dep").read_text().splitlines():
            path, _, needs = line.partition(":")
            self._needs[path] = needs.split()
            self._path_of[Path(path).stem.replace("-", "_")] = path

    def copy(self, names: Sequence[str], root: Path) -> list[str]:
        """Copy the named modules with all they depend on; returns their paths below `root` in loading order."""
        ordered: list[str] = []
        for name in names:
            self._add(self._path_of[name], ordered)
        target = root / self.folder.relative_to(self.package)
        for path in ordered:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / path, target / path)
        for index in (*self.folder.glob("modules.builtin*"), self.folder / "modules.order"):
            shutil.copyfile(index, target / index.name)
        return [str((target / path).relative_to(root)) for path in ordered]

    def _add(self, path: str, ordered: list[str]) -> None:
        for needed in self._needs[path]:
            self._add(needed, ordered)
        if path not in ordered:
            ordered.append(path)
