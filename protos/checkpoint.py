"""The signed statement about the audit log (审计检查点): which bytes are signed, so that the writer and every witness speak of the same.

Must not know: how the log is kept, who holds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from protos.suites import Suite

#: Fields of the document, in the order in which they are signed.
FIELDS: Final[tuple[tuple[str, type], ...]] = (
    ("size", int), ("head", str), ("root", str), ("at_ms", int), ("control_n", int), ("control_head", str), ("suite", str))

#: The field that holds the signature, by the suite of the witness: one document carries both.
SIGNATURE: Final[Mapping[Suite, str]] = {Suite.STD: "signature", Suite.SM: "signature_sm2"}


def body(document: Mapping[str, Any]) -> bytes:
    """What the audit keys sign (Ed25519 and, on a platform with SM2, SM2).

    Raises:
        ValueError: a field is missing or of another type.
    """
    for name, kind in FIELDS:
        if type(document.get(name)) is not kind:
            raise ValueError(f"not a checkpoint: {name}")
    return json.dumps(["kang-audit-1", *(document[name] for name, _ in FIELDS)]).encode()
