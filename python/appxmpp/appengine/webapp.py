"""App Engine's webapp framework, which has been webapp2 since the Python 2.7 runtime."""

import logging
import os
import sys
import traceback

if sys.modules.get("webapp2") and not hasattr(sys.modules["webapp2"], "abort"):
    # webapp2 looks for this module while it is being imported, and once more at its end.
    raise ImportError("webapp2 is still being imported")

try:
    import webapp2
    from webapp2 import *  # noqa: F403
except ImportError as _error:
    raise ImportError(
        "google.appengine.ext.webapp needs webapp2, which cannot be imported (%s); "
        "install it with: pip install 'appxmpp[run]'" % (_error,)
    )

# webapp2 treats handlers of a framework it finds under this name as not its own.
webapp2._webapp = None


class Error(Exception):
    """Base class of the exceptions of webapp."""


class _ConfigHandle(object):
    """Reads ``webapp_*`` out of the application's ``appengine_config``, when first asked."""

    def add_wsgi_middleware(self, application):
        """Wraps `application` as ``webapp_add_wsgi_middleware`` says, if it is defined."""
        try:
            import appengine_config
        except ImportError as error:
            if getattr(error, "name", None) not in (None, "appengine_config"):
                raise
            return application
        hook = getattr(appengine_config, "webapp_add_wsgi_middleware", None)
        return hook(application) if hook else application


_config_handle = _ConfigHandle()


def is_classic():
    """Whether ``APPXMPP_WEBAPP=classic`` asks for the manners of the first webapp.

    There an exception in a handler was logged and answered with status 500, and
    `handle_exception` returned; webapp2 raises it again.
    """
    return os.environ.get("APPXMPP_WEBAPP", "").strip().lower() == "classic"


def handle_exception_classic(handler, exception, debug_mode):
    """What ``RequestHandler.handle_exception`` did in the first webapp."""
    handler.error(500)
    logging.exception(exception)
    if debug_mode:
        handler.response.clear()
        handler.response.set_status(500)
        handler.response.headers["Content-Type"] = "text/plain; charset=utf-8"
        handler.response.write(traceback.format_exc())
