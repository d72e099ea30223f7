"""Fuzzes the report descriptor parser and what is built on it; run by hand, it ends only by time or by a finding.

    python tests/properties/fuzz_report_descriptor.py [seconds] [folder of descriptors as binary files]

With atheris installed, coverage guides the search (further arguments are libFuzzer's); without it, seeds are mutated
blindly. Anything but `DescriptorError`, or an input that takes more than a second, is a finding.

Last run with atheris, from the descriptors of 39 devices, real and made up: 222,332 executions in 662 s on a core that
was shared, no finding.
"""

import importlib
import importlib.util
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "daemon"))
sys.path.insert(0, str(Path(__file__).parents[2]))

# Imported by name: it is no dependency, and ships no types.
atheris = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None

if atheris is not None:
    with atheris.instrument_imports(include=["mutebridge.core"]):
        from mutebridge.core import report_descriptor, telephony
else:
    from mutebridge.core import report_descriptor, telephony

from tests.unit.headsets.items import headset, input_, output, report_id, usage, usage_page, usages  # noqa: E402 -- after the path is set

SEEDS = [
    b"",
    headset(report_id(2), usage(0x20), input_(0x23), usage(0x2F), input_(0x07)),
    headset(usage_page(0x08), usages(0x09, 0x20), output(0x22)),
    headset(usage(0x07), usage_page(0x09), input_(0x02), usages(0x20, 0x2F), input_(0x40)),
]


def try_one(data: bytes) -> None:
    """Take the last 16 bytes as a report, the rest as a descriptor."""
    start = time.process_time()
    try:
        rd = report_descriptor.parse(data[:-16])
    except report_descriptor.DescriptorError as error:
        if not 0 <= error.offset <= len(data):
            raise AssertionError(error.offset) from None
        return
    found = telephony.Telephony.from_descriptor(rd)
    decoder = telephony.Decoder(found)
    for length in (0, 1, 3, 16):
        decoder.decode(data[-16:][:length])
    for report in found.encode(set(telephony.LampName)).values():
        assert len(report) <= report_descriptor.MAX_REPORT_BYTES + 1
    found.described()
    assert time.process_time() - start < 1, "slow"


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(data))
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
            case 1:
                del data[at : at + rng.randint(1, 6)]
            case 2 if at < len(data):
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 3:
                other = rng.choice(seeds)
                start = rng.randint(0, len(other))
                data[at:at] = other[start : start + rng.randint(1, 40)]
            case _:
                data[at:at] = data[at : at + 20] * rng.randint(1, 20)
    return bytes(data[:6000])


def blindly(seeds: list[bytes], seconds: float, one: Callable[[bytes], None]) -> None:
    rng = random.Random(time.time_ns())
    runs, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(seeds, rng) + rng.randbytes(16)
        try:
            one(data)
        except BaseException:
            print("finding:", data.hex())
            raise
        runs += 1
    print(f"{runs} executions in {seconds:.0f} s without a finding")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if atheris is not None:
        corpus = [str(folder)] if folder else []
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}", "-max_len=1500", *corpus, *sys.argv[3:]], try_one)
        atheris.Fuzz()
    seeds = SEEDS + ([path.read_bytes() for path in sorted(folder.iterdir())] if folder else [])
    blindly(seeds, seconds, try_one)


if __name__ == "__main__":
    main()
