#!/usr/bin/env python3
"""Writes the manual pages from include/appxmpp.h and src/*.rs: `python3 capi/man/generate.py`, after `make header`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
CAPI = HERE.parent
#: Page, and the source whose first line says what the page is about.
GROUPS = {
    "version": "version.rs",
    "error": "error.rs",
    "jid": "jid.rs",
    "stanza": "stanza.rs",
    "options": "options.rs",
    "connection": "connection.rs",
    "service": "service.rs",
    "event": "event.rs",
    "subscription": "subscription.rs",
    "stream": "stream.rs",
    "stats": "stats.rs",
    "log": "log.rs",
}


def items(header: str) -> list[tuple[str, str, str]]:
    """(name, comment, declaration) of everything that the header declares, in its order."""
    body = header.split("#include <stdint.h>", 1)[1].split("#ifdef __cplusplus\n}")[0]
    body = re.sub(
        r"#ifdef __cplusplus\nextern.*?#endif.*?\n", "", body, flags=re.DOTALL
    )
    found = []
    for block in re.split(r"\n{2,}(?=//)", body):
        lines = block.strip("\n").split("\n")
        comment = [line[2:].strip() for line in lines if line.startswith("//")]
        declaration = "\n".join(
            line for line in lines if not line.startswith("//")
        ).strip()
        if declaration:
            found.append((name_of(declaration), "\n".join(comment), declaration))
    return found


def name_of(declaration: str) -> str:
    for pattern in (
        r"#define (\w+)",
        r"\(\*(\w+)\)\(",
        r"^typedef struct (\w+) \w+;",
        r"\}\s*(\w+);$",
        r"\b(appxmpp_\w+)\(",
    ):
        if found := re.search(pattern, declaration):
            return found[1]
    sys.exit(f"no name in {declaration!r}")


def group_of(name: str, sources: dict[str, str]) -> str:
    """The file that declares it."""
    for group, text in sources.items():
        if re.search(rf"\b(fn|const|struct|enum|type) {name}\b", text):
            return group
    return ""


def roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("…", "...").replace("§", "\\(sc")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(
        r"(?m)^$", ".PP", re.sub(r"(?m)^([.'])", r"\\&\1", text).replace("-", "\\-")
    )


def verbatim(text: str) -> str:
    return (
        ".nf\n"
        + re.sub(r"(?m)^([.'])", r"\\&\1", text.replace("\\", "\\e")).replace(
            "-", "\\-"
        )
        + "\n.fi"
    )


def head(page: str, names: list[str], about: str) -> list[str]:
    return [
        f'.\\" Written by capi/man/generate.py from the header.\n.TH {page.upper()} 3 "" "libappxmpp @VERSION@"',
        f".SH NAME\n{', '.join(names)} \\- {roff(about)}",
    ]


def see_also(page: str) -> str:
    others = ["appxmpp", *(f"appxmpp_{group}" for group in GROUPS)]
    return ".SH SEE ALSO\n" + ",\n".join(
        f".BR {other} (3)" for other in others if other != page
    )


def overview(header: str, declared: list[tuple[str, str, str]]) -> str:
    lines = [
        line[2:].strip() for line in header.split("#ifndef")[0].rstrip().split("\n")
    ]
    about, paragraphs = lines[0], "\n".join(lines[2:]).split("\n\n")
    parts = head("appxmpp", ["appxmpp"], about.removeprefix("libappxmpp: ").rstrip("."))
    parts.append(
        ".SH SYNOPSIS\n.nf\n#include <appxmpp.h>\n\ncc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs appxmpp)\n.fi"
    )
    parts.append(
        ".SH CONVENTIONS\n"
        + roff(paragraphs[0].removeprefix("Conventions ").strip("()").capitalize())
    )
    parts += [".PP\n" + roff(paragraph) for paragraph in paragraphs[1:]]
    parts.append(".SH TYPES AND CONSTANTS")
    parts += [
        f".SS {name}\n{verbatim(text)}\n.PP\n{roff(comment)}"
        for name, comment, text in declared
    ]
    parts.append(
        ".SH COMPATIBILITY\nThe SONAME, libappxmpp.so.@ABI@, names the interface: before 1.0 each minor version has one of "
        "its own, from 1.0 on each major version. Within one, functions and constants are added and never changed or "
        "taken away, and structures keep their size."
    )
    parts.append(
        ".SH ENVIRONMENT\n.TP\n.B APPXMPP_BACKEND\nwhere to connect, if the program does not say.\n"
        ".TP\n.B APPXMPP_SECRET\nthe secret, if the backend has none.\n"
        ".TP\n.B APPXMPP_SECRET_FILE\na file that holds it."
    )
    return "\n".join([*parts, see_also("appxmpp")]) + "\n"


def page(group: str, source: str, declared: list[tuple[str, str, str]]) -> str:
    about = re.sub(r"^//! ", "", source.split("\n")[0]).rstrip(".")
    about = about[0].lower() + about[1:] if not about.startswith("App ") else about
    names = [
        name
        for name, _, declaration in declared
        if declaration.endswith(");") and "typedef" not in declaration
    ]
    parts = head(f"appxmpp_{group}", [f"appxmpp_{group}", *names], about)
    parts.append(".SH SYNOPSIS\n.nf\n#include <appxmpp.h>\n.fi")
    parts.append(
        ".SH DESCRIPTION\nThe conventions of\n.BR appxmpp (3)\nhold for all of this."
    )
    for name, comment, declaration in declared:
        parts.append(f".SS {name}\n{verbatim(declaration)}\n.PP\n{roff(comment)}")
    return "\n".join([*parts, see_also(f"appxmpp_{group}")]) + "\n"


def pages() -> dict[str, str]:
    header = (CAPI / "include" / "appxmpp.h").read_text()
    sources = {
        group: (CAPI / "src" / file).read_text() for group, file in GROUPS.items()
    }
    sources[""] = (CAPI / "src" / "ffi.rs").read_text()
    grouped: dict[str, list[tuple[str, str, str]]] = {
        group: [] for group in ("", *GROUPS)
    }
    for item in items(header):
        grouped[group_of(item[0], sources)].append(item)
    out = {"appxmpp.3": overview(header, grouped.pop(""))}
    for group, declared in grouped.items():
        out[f"appxmpp_{group}.3"] = page(group, sources[group], declared)
    return out


def main() -> None:
    for name, text in pages().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()
