"""Certificates made by openssl: a self-signed one for `localhost` and everything below it, and an authority's."""

from __future__ import annotations

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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key, self.certificate = folder / "authority.key", folder / "authority.pem"
        self._openssl(
            *["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=An authority of tests"],
            *["-keyout", self._key, "-out", self.certificate],
        )

    def server(self, names: str) -> ssl.SSLContext:
        """What a server needs to be `names`, such as `DNS:localhost,IP:127.0.0.1`."""
        key, request, signed = (self._folder / f"server.{ending}" for ending in ("key", "csr", "pem"))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", request)
        extensions = self._folder / "extensions"
        extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
        self._openssl(
            *["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"],
            *["-days", "30", "-extfile", extensions, "-out", signed],
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context

    def _openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
