"""A self-signed certificate for catcher.test, localhost and 127.0.0.1, and contexts for both sides.

The key is worth nothing: it is for these tests only, and public. Valid from 2020 to 2120.
"""

import ssl
from pathlib import Path

KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQYDID3TWCizfedlC
5WOrZljCDcq59K9wsGX9Dto5QPShRANCAAQYqQomiXaFFTDbnPnup3s5gWzzpAdA
5/1vqLmvMTFzIiu+WCpzfoagn+MmbnjI6rh9hhK8/Xp1aqn856xjDSOL
-----END PRIVATE KEY-----
"""

CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBijCCATGgAwIBAgIBATAKBggqhkjOPQQDAjAXMRUwEwYDVQQDDAxjYXRjaGVy
LnRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBcxFTATBgNV
BAMMDGNhdGNoZXIudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBipCiaJ
doUVMNuc+e6nezmBbPOkB0Dn/W+oua8xMXMiK75YKnN+hqCf4yZueMjquH2GErz9
enVqqfznrGMNI4ujbDBqMCgGA1UdEQQhMB+CDGNhdGNoZXIudGVzdIIJbG9jYWxo
b3N0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgKEMB0GA1Ud
DgQWBBR4rLzrdocxmiTR4iO0dIgySqBQ/zAKBggqhkjOPQQDAgNHADBEAiAmNiiG
4C49HaJE4X/YbHNmZnvaJM5k5QOVYnOZUmwl1QIgD6IuIRljZTBtcHqkQVashnBK
QpG1d1BibJJ6EctWYj8=
-----END CERTIFICATE-----
"""


def server_context(folder: Path) -> ssl.SSLContext:
    """A server's context; *folder* is where the files are written that OpenSSL wants to read."""
    file = folder / "catcher.pem"
    file.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def client_context() -> ssl.SSLContext:
    """A client's context that trusts the certificate, and verifies it and the host name."""
    return ssl.create_default_context(cadata=CERTIFICATE)
