"""`python -m appxmpp` is the `appxmpp` command."""

import sys

from appxmpp.cli import main

sys.exit(main())
