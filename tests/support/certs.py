"""Certificates made by openssl: a self-signed one for `localhost` and everything below it, and an authority's."""

from __future__ import annotations

import ssl
import hashlib
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


class Authority:
    """Somebody who issues certificates; whoever trusts `certificate` trusts them all."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder = folder
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.crt"
        _openssl(
            ["req", "-x509", *_NEW_KEY, "-days", "30", "-subj", f"/CN={name}"]
            + ["-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(self.key), "-out", str(self.certificate)]
        )

    def issue(self, name: str = "localhost", days: int = 30) -> Certificate:
        """A certificate for `name`; with `days` below zero it has expired."""
        stem = f"{name}{days}"
        made = Certificate(*(self.folder / f"{stem}.{kind}" for kind in ("key", "crt", "pem")))
        request, extensions = self.folder / f"{stem}.csr", self.folder / f"{stem}.ext"
        _openssl(["req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(made.key), "-out", str(request)])
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl(
            ["x509", "-req", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self.key)]
            + ["-days", str(days), "-extfile", str(extensions), "-out", str(made.certificate)]
        )
        made.both.write_bytes(made.key.read_bytes() + made.certificate.read_bytes())
        return made


_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate, as openssl prints it: pairs of digits with colons between them."""
    printed = _openssl(["x509", "-noout", "-fingerprint", "-sha256", "-in", str(certificate)])
    return printed.partition("=")[2].strip()


def key_fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate's public key, as hexadecimal digits."""
    public = _openssl(["x509", "-noout", "-pubkey", "-in", str(certificate)])
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=public.encode(), check=True, capture_output=True
    ).stdout
    return hashlib.sha256(der).hexdigest()


def _openssl(arguments: list[str]) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout
