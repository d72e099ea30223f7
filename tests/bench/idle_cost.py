"""What a process costs while nothing happens, as the kernel counts it."""

import os
import time
from pathlib import Path

import msgspec

_NS_PER_S = 1e9
_KIB_PER_MIB = 1024


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of each thread, by its id, at a moment of the monotonic clock."""

    at_s: float
    wake_ups: dict[int, int]
    cpu_s: dict[int, float]


class IdleCost(msgspec.Struct, frozen=True, kw_only=True):
    """Wake-ups are the times that any of the process's threads went to sleep of its own accord."""

    wake_ups_per_s: float
    cpu_s_per_h: float
    rss_mib: float
    pss_mib: float
    threads: int


def snapshot(pid: int) -> Snapshot:
    threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 -- the name is all that is wanted
    return Snapshot(
        at_s=time.monotonic(),
        wake_ups={thread: _status(pid, thread)["voluntary_ctxt_switches"] for thread in threads},
        cpu_s={thread: _cpu_s(pid, thread) for thread in threads},
    )


def cost_since(before: Snapshot, pid: int) -> IdleCost:
    after = snapshot(pid)
    seconds = after.at_s - before.at_s
    wake_ups = sum(count - before.wake_ups.get(thread, 0) for thread, count in after.wake_ups.items())
    cpu_s = sum(used - before.cpu_s.get(thread, 0.0) for thread, used in after.cpu_s.items())
    return IdleCost(
        wake_ups_per_s=wake_ups / seconds,
        cpu_s_per_h=cpu_s / seconds * 3600,
        rss_mib=_status(pid, pid)["VmRSS"] / _KIB_PER_MIB,
        pss_mib=_sizes_kib(Path(f"/proc/{pid}/smaps_rollup"))["Pss"] / _KIB_PER_MIB,
        threads=len(after.wake_ups),
    )


def cpu_s(pid: int) -> float:
    """The run time of all threads of a process that live."""
    return sum(snapshot(pid).cpu_s.values())


def _status(pid: int, thread: int) -> dict[str, int]:
    return _sizes_kib(Path(f"/proc/{pid}/task/{thread}/status"))


def _sizes_kib(path: Path) -> dict[str, int]:
    """The lines `Name: number` and `Name: number kB` of a file."""
    fields = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
    return {name: int(value.split()[0]) for name, value in fields if value.split() and value.split()[0].isdigit()}


def _cpu_s(pid: int, thread: int) -> float:
    """The scheduler's own nanoseconds; utime and stime count in steps of 10 ms, too coarse for an idle minute."""
    path = Path(f"/proc/{pid}/task/{thread}/schedstat")
    if path.exists():
        return int(path.read_text().split()[0]) / _NS_PER_S
    fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
