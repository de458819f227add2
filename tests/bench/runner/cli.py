"""The benchmark: sections in order, a report at the end."""

from __future__ import annotations

import sys
from dataclasses import asdict

from . import components, contacts, gateway, outbox, scaling, size
from .build import Programs
from .options import Options, UsageError, parse, usage
from .proc import BenchError
from .report import Report

SECTIONS = {
    "send": components.send,
    "echo": components.echo,
    "libraries": components.libraries,
    "contacts": contacts.run,
    "outbox": outbox.run,
    "gateway": gateway.run,
    "scaling": scaling.run,
    "size": size.run,
}


def run(options: Options) -> Report:
    report, programs = Report(), Programs(options.out)
    for name in options.only or SECTIONS:
        print(f"== {name}", flush=True)
        SECTIONS[name](options, programs, report)
    return report


def main() -> int:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(usage(), f"\nsections: {', '.join(SECTIONS)}", sep="\n")
        return 0
    try:
        options = parse(sys.argv[1:])
        unknown = set(options.only) - set(SECTIONS)
        if unknown:
            raise UsageError(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
        report = run(options)
    except UsageError as error:
        print(f"bench: {error}\n\n{usage()}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    report.print()
    path = options.out / "results.json"
    report.save(path, asdict(options))
    print(f"\nkept as {path}")
    return 1 if options.strict and report.missed else 0
