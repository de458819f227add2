"""`python -m appxmpp` is the `appxmpp` command."""

import sys

from appxmpp.cli import main

if __name__ == "__main__":
    sys.exit(main())
