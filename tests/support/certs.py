"""A self-signed certificate for `localhost` and everything below it, made by openssl."""

from __future__ import annotations

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
