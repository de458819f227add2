"""`python -m appxmpp` is the `appxmpp` command."""

import sys

if sys.version_info >= (3, 10):
    from appxmpp.cli import main
else:
    from appxmpp._ctypes_run import main

if __name__ == "__main__":
    sys.exit(main())
