"""Certificates made by openssl: a self-signed one for `localhost` and everything below it, and an authority's."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    key: Path
    certificate: Path
    both: Path


def self_signed(folder: Path) -> Certificate:
    made = Certificate(folder / "localhost.key", folder / "localhost.crt", folder / "localhost.pem")
    names = "subjectAltName=DNS:localhost,DNS:*.localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost"]
        + ["-addext", names, "-keyout", str(made.key), "-out", str(made.certificate)],
        check=True,
        capture_output=True,
    )
    made.both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
    return made


class Authority:
    """Signs certificates, and is believed by whoever trusts `certificate`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        _openssl(
            *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=An authority of tests"],
            *["-keyout", self._key, "-out", self.certificate],
        )

    def issue(self, names: str, days: int = 30) -> Certificate:
        """A certificate for `names`, such as `DNS:localhost,IP:127.0.0.1`; below zero days it has expired."""
        key, request, signed, both = (self._folder / f"server.{ending}" for ending in ("key", "csr", "crt", "pem"))
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", request)
        extensions = self._folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        _openssl(
            *["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"],
            *["-days", days, "-extfile", extensions, "-out", signed],
        )
        both.write_bytes(key.read_bytes() + signed.read_bytes())
        return Certificate(key, signed, both)

    def server(self, names: str) -> ssl.SSLContext:
        """What a server needs to be `names`."""
        return context(self.issue(names))


def context(certificate: Certificate) -> ssl.SSLContext:
    """What a server of Python's needs."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate.certificate, certificate.key)
    return made


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate, as openssl prints it: pairs of digits with colons between them."""
    printed = _openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", certificate)
    return printed.decode().partition("=")[2].strip()


def key_fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate's public key, as hexadecimal digits."""
    public = _openssl("x509", "-noout", "-pubkey", "-in", certificate)
    return hashlib.sha256(_openssl("pkey", "-pubin", "-outform", "DER", given=public)).hexdigest()


def _openssl(*arguments: object, given: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], input=given, check=True, capture_output=True).stdout
