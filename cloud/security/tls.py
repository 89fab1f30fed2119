"""How our listeners speak TLS: Mozilla's intermediate profile (5.7), narrowed to forward secrecy and AEAD; no renegotiation, no compression.

Must not know: which listener, which process.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

#: For TLS 1.2 (1.3 brings its own); our keys are P-256, so only ECDSA suites can ever be chosen.
CIPHERS: Final = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"


def server_context(chain: Path, key: Path, clients: Path, *, required: bool, newest_only: bool = False) -> ssl.SSLContext:
    """A server's context.

    Args:
        chain: its certificate with the intermediates, PEM.
        key: its key, PEM.
        clients: what vouches for clients' certificates, PEM; an intermediate is an anchor.
        required: False lets a client without a certificate in; one that is shown must be good all the same.
        newest_only: TLS 1.3 alone, where both ends are ours.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if newest_only else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_ecdh_curve("prime256v1")  # the only group both Mozilla's profile and our certificates name; without it OpenSSL would offer P-521 and X448, too
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(chain, key)
    context.load_verify_locations(cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
