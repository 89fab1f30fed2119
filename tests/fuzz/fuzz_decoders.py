"""Fuzzing the decoders that meet bytes from a bus or a link: `python tests/fuzz/fuzz_decoders.py [inputs] [seed]`.

First mutations of real frames under a printed seed, then atheris (coverage-guided) when it is installed, as many inputs each. The only exceptions allowed are
FrameError, BatchError, EnvelopeError and TemplateError; anything else ends the run with the input in hexadecimal and exit code 1.
"""

from __future__ import annotations

import random
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: E402

from edge_agent.drivers import cjt188, dlt645, modbus  # noqa: E402
from edge_agent.errors import FrameError  # noqa: E402
from edge_agent.templates import WIDTH, Address  # noqa: E402
from protos import batch, envelope  # noqa: E402

ALLOWED = (FrameError, batch.BatchError, envelope.EnvelopeError)
OPENER = envelope.Opener("x", X25519PrivateKey.from_private_bytes(b"\x05" * 32), sessions=4)
DIS = sorted(dlt645.ITEMS)
PROFILES = list(cjt188.PROFILES.values())
KINDS = sorted(WIDTH)


def _rest645(data: bytes) -> None:
    frame = dlt645.Frame("0" * 12, data[0] if data else 0, data[1:256])
    for read in (dlt645.parse_reply, dlt645.parse_request):
        try:
            read(frame)
        except FrameError:
            continue
    dlt645.decode_value(DIS[data[0] % len(DIS)] if data else 0, data[1:])


def _rest188(data: bytes) -> None:
    frame = cjt188.Frame(cjt188.HEAT, "00" * 7, data[0] if data else 0, data[1:256])
    profile = PROFILES[len(data) % len(PROFILES)]
    for read in (cjt188.parse_request, cjt188.parse_address):
        try:
            read(frame, profile=profile)
        except FrameError:
            continue
    cjt188.parse_heat(frame, profile=profile)


def _registers(data: bytes) -> None:
    words = [int.from_bytes(data[k:k + 2], "big") for k in range(0, len(data) - 1, 2)]
    modbus.decode(Address(table="holding", type=KINDS[len(data) % len(KINDS)], bit=len(data) % 16), words)


#: name -> (decoder, share of the inputs)
TARGETS: dict[str, tuple[Callable[[bytes], object], int]] = {
    "dlt645.decode": (dlt645.decode, 4), "dlt645.extract": (lambda d: dlt645.Extractor().feed(d), 4), "dlt645.inner": (_rest645, 4),
    "cjt188.decode": (cjt188.decode, 4), "cjt188.extract": (lambda d: cjt188.Extractor().feed(d), 4), "cjt188.inner": (_rest188, 4),
    "modbus.registers": (_registers, 2), "batch.parse": (batch.parse, 2), "envelope.open": (lambda d: OPENER.open(d, envelope.Kind.COMMAND), 1)}


def seeds() -> list[bytes]:
    """Real frames to mutate."""
    found = []
    for name in ("dlt645.toml", "cjt188.toml"):
        frames = tomllib.loads((ROOT / "tests" / "vectors" / name).read_text(encoding="utf-8"))["frame"]
        found += [bytes.fromhex(f["hex"] + f.get("tail", "")) for f in frames]
    found += [f[11:-2] for f in found] + [b"\x81" + f[11:-2] for f in found]
    stamp = batch.Stamp(1, "a", b"e" * 16, 1, b"b" * 16)
    found.append(batch.encode(stamp, [batch.Reading(1, 1, 1000 * k, float(k)) for k in range(5)]))
    found.append(b"KE\x01\x01\x03\x00" + bytes(300))
    return found


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A few small damages."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        what = chance.randrange(6)
        at = chance.randrange(len(out) + 1)
        if what == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif what == 1 and at < len(out):
            out[at] = chance.randrange(256)
        elif what == 2:
            out[at:at] = chance.randbytes(chance.randint(1, 6))
        elif what == 3:
            del out[at:at + chance.randint(1, 6)]
        elif what == 4:
            out = out[:at]
        else:
            # Make the checksum right again, so that the damage gets past it.
            body = bytes(out).lstrip(b"\xfe")
            if len(body) > 2:
                out = bytearray(body[:-2] + bytes([sum(body[:-2]) & 0xFF, 0x16]))
    return bytes(out)


def run(inputs: int, seed: int) -> dict[str, dict[str, int]]:
    """Feed `inputs` mutated inputs.

    Returns:
        target -> {"accepted", "refused"} counts.

    Raises:
        AssertionError: a decoder raised something else; names target, seed and input.
    """
    chance = random.Random(seed)
    corpus = seeds()
    targets = [(name, decode) for name, (decode, share) in TARGETS.items() for _ in range(share)]
    counts = {name: {"accepted": 0, "refused": 0} for name in TARGETS}
    for _ in range(inputs):
        name, decode = targets[chance.randrange(len(targets))]
        data = mutate(corpus[chance.randrange(len(corpus))], chance) if chance.random() < 0.9 else chance.randbytes(chance.randrange(80))
        try:
            decode(data)
        except ALLOWED:
            counts[name]["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name} raised {type(error).__name__}: {error}; seed {seed}, input {data.hex()}") from error
        else:
            counts[name]["accepted"] += 1
    return counts


def main() -> int:
    """Entry point of `make fuzz`."""
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    started = time.perf_counter()
    try:
        counts = run(inputs, seed)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{inputs} inputs, seed {seed}, {time.perf_counter() - started:.0f} s, no unexpected exception")
    for name, row in counts.items():
        print(f"  {name:18} accepted {row['accepted']:8} refused {row['refused']:8}")
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: no coverage-guided run")
        return 0

    names = list(TARGETS)

    def one(data: bytes) -> None:
        if data:
            try:
                TARGETS[names[data[0] % len(names)]][0](data[1:])
            except ALLOWED:
                return

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-runs={inputs}"], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
