"""Writes the wheel for Python 2.7, 3.6 to 3.9 and PyPy: the package, and libappxmpp for ctypes.

python3 build_ctypes_wheel.py LIBRARY FOLDER [--platform TAG] prints the path of the wheel. Modules
for Python 3.10 and newer, which say ``from __future__ import annotations``, are left out.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def version() -> str:
    """The version of the workspace, which all parts have."""
    found = re.search(r'^version = "([^"]+)"$', (ROOT / "Cargo.toml").read_text("utf-8"), re.M)
    assert found, "Cargo.toml has no version"
    return found[1]


def sources() -> Iterator[tuple[str, bytes]]:
    """Name and content of each file that runs everywhere."""
    for package in ("appxmpp", "google"):
        for path in sorted((HERE / package).rglob("*.py")):
            content = path.read_bytes()
            if b"from __future__ import annotations" not in content:
                yield path.relative_to(HERE).as_posix(), content
    for path in sorted((HERE / "data" / "purelib").iterdir()):
        yield path.name, path.read_bytes()
    for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
        yield f"appxmpp-{version()}.dist-info/{licence}", (ROOT / licence).read_bytes()


METADATA = """\
Metadata-Version: 2.1
Name: appxmpp
Version: {version}
Summary: App Engine's XMPP API on any XMPP server: legacy chat bots run unchanged
License: MIT OR Apache-2.0
Requires-Python: >=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*, !=3.4.*, !=3.5.*
Provides-Extra: run
Requires-Dist: PyYAML (<6,>=5.4.1) ; (python_version < '3') and extra == 'run'
Requires-Dist: waitress (==1.4.4) ; (python_version < '3') and extra == 'run'
Requires-Dist: webapp2 (==2.5.2) ; (python_version < '3') and extra == 'run'
Requires-Dist: WebOb (<1.9) ; (python_version < '3') and extra == 'run'
Requires-Dist: PyYAML ; (python_version >= '3') and extra == 'run'
Requires-Dist: waitress ; (python_version >= '3') and extra == 'run'
"""


def build(library: Path, folder: Path, platform: str) -> Path:
    """Write the wheel into `folder`; its path."""
    info = f"appxmpp-{version()}.dist-info"
    tags = "".join(f"Tag: {python}-none-{platform}\n" for python in ("py2", "py3"))
    files = [
        *sources(),
        ("appxmpp/libappxmpp.so", library.read_bytes()),
        (f"{info}/METADATA", METADATA.format(version=version()).encode()),
        (
            f"{info}/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: appxmpp\nRoot-Is-Purelib: false\n{tags}".encode(),
        ),
        (f"{info}/entry_points.txt", b"[console_scripts]\nappxmpp = appxmpp.__main__:main\n"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"appxmpp-{version()}-py2.py3-none-{platform}.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f"{name},sha256={digest.decode()},{len(content)}\n")
            # One time for all, so that the same sources make the same wheel.
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o755 if name.endswith(".so") else 0o644) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        archive.writestr(f"{info}/RECORD", "".join(record) + f"{info}/RECORD,,\n")
    return wheel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="libappxmpp.so, stripped for a release")
    parser.add_argument("folder", type=Path, help="where the wheel is written")
    own = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    parser.add_argument("--platform", default=own, help="the platform tag (default %(default)s)")
    options = parser.parse_args()
    print(build(options.library, options.folder, options.platform))


if __name__ == "__main__":
    main()
