"""The mathematics of the audit chain: leaves, the running hash, the Merkle tree of RFC 6962, signed checkpoints. Pure.

Must not know: the ledger, files, who writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protos import checkpoint
from protos.sm2 import Sm2PrivateKey

_SUITES: Final[Mapping[str, type[hashes.HashAlgorithm]]] = {"sha256": hashes.SHA256, "sm3": hashes.SM3}
GENESIS: Final = bytes(32)


class Suite:
    """A hash by name ("sha256", "sm3")."""

    def __init__(self, name: str = "sha256") -> None:
        self.name = name
        self._algorithm = _SUITES[name]

    def digest(self, data: bytes) -> bytes:
        """The hash of `data`, 32 bytes."""
        hasher = hashes.Hash(self._algorithm())
        hasher.update(data)
        return hasher.finalize()

    def leaf(self, record: bytes) -> bytes:
        """Leaf of a record (RFC 6962, 2.1)."""
        return self.digest(b"\x00" + record)

    def node(self, left: bytes, right: bytes) -> bytes:
        """Inner node of the tree."""
        return self.digest(b"\x01" + left + right)

    def link(self, previous: bytes, leaf: bytes) -> bytes:
        """The chain after one more record."""
        return self.digest(b"\x02" + previous + leaf)


class Tree:
    """The Merkle tree as the roots of its complete subtrees: appending is O(log n), the root too."""

    def __init__(self, suite: Suite, peaks: Sequence[tuple[int, bytes]] = ()) -> None:
        """Args: peaks: (size, root) of complete subtrees, larger first, to go on from."""
        self._suite = suite
        self._peaks: list[tuple[int, bytes]] = list(peaks)
        self.size = sum(size for size, _ in peaks)

    @property
    def peaks(self) -> tuple[tuple[int, bytes], ...]:
        """(size, root) of the complete subtrees, larger first."""
        return tuple(self._peaks)

    def append(self, leaf: bytes) -> None:
        """One more leaf."""
        size, node = 1, leaf
        while self._peaks and self._peaks[-1][0] == size:
            _, left = self._peaks.pop()
            node, size = self._suite.node(left, node), size * 2
        self._peaks.append((size, node))
        self.size += 1

    def root(self) -> bytes:
        """The root (MTH of RFC 6962); of an empty tree the hash of nothing."""
        if not self._peaks:
            return self._suite.digest(b"")
        root = self._peaks[-1][1]
        for _, left in reversed(self._peaks[:-1]):
            root = self._suite.node(left, root)
        return root


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed about the first `size` records.

    Attributes:
        size: records linked.
        head: chain after record `size`, hex.
        root: Merkle root of the first `size` leaves, hex.
        at_ms: when it was made.
        control_n: rows of the command journal's own audit at that moment.
        control_head: hash of the last of them, hex.
        suite: hash suite.
        signature: Ed25519 over `body`, hex.
        signature_sm2: SM2 over the same, hex, for witnesses of suite SM; "" where the machine has none.
    """

    size: int
    head: str
    root: str
    at_ms: int
    control_n: int
    control_head: str
    suite: str
    signature: str = ""
    signature_sm2: str = ""

    def body(self) -> bytes:
        """What is signed."""
        return checkpoint.body(self.document())

    def signed(self, key: Ed25519PrivateKey, also: Sm2PrivateKey | None = None) -> Checkpoint:
        """The same, signed; with `also` for witnesses of suite SM too."""
        return replace(self, signature=key.sign(self.body()).hex(), signature_sm2=also.sign(self.body()).hex() if also is not None else "")

    def genuine(self, key: Ed25519PublicKey) -> bool:
        """True when the audit key signed it."""
        try:
            key.verify(bytes.fromhex(self.signature), self.body())
        except (InvalidSignature, ValueError):
            return False
        return True

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"size": self.size, "head": self.head, "root": self.root, "at_ms": self.at_ms, "control_n": self.control_n, "control_head": self.control_head,
                "suite": self.suite, "signature": self.signature, **({"signature_sm2": self.signature_sm2} if self.signature_sm2 else {})}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Checkpoint:
        """From JSON.

        Raises:
            ValueError: a field is missing or has the wrong type.
        """
        try:
            return cls(int(document["size"]), str(document["head"]), str(document["root"]), int(document["at_ms"]), int(document["control_n"]), str(document["control_head"]),
                       str(document["suite"]), str(document["signature"]), str(document.get("signature_sm2", "")))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a checkpoint: {error}") from None


def roots_at(suite: Suite, leaves: Sequence[bytes], sizes: Sequence[int], peaks: Sequence[tuple[int, bytes]] = ()) -> dict[int, bytes]:
    """Merkle roots of the first n leaves, for each n in `sizes` that is not beyond them; `peaks` stand for leaves that are gone, `leaves` follow them."""
    wanted, found, tree = set(sizes), dict[int, bytes](), Tree(suite, peaks)
    if tree.size in wanted:
        found[tree.size] = tree.root()
    for leaf in leaves:
        tree.append(leaf)
        if tree.size in wanted:
            found[tree.size] = tree.root()
    return found
