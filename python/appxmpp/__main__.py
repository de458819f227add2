"""The `appxmpp` command, also as `python -m appxmpp`."""

import sys


def main():
    # type: () -> int
    """Run the command of `sys.argv`; the exit code."""
    if sys.version_info < (3, 10):
        from appxmpp import _ctypes_run

        return _ctypes_run.main()
    from appxmpp import gateway

    # The daemon needs nothing of the rest, and is to stay small.
    if sys.argv[1:2] and sys.argv[1] in gateway.COMMANDS:
        return gateway.main(sys.argv[1:])
    from appxmpp import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
