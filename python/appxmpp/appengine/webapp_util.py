"""Helpers for webapp applications: run one under CGI, demand a login."""

import functools
from wsgiref import handlers

from google.appengine.ext import webapp


def login_required(handler_method):
    """Lets a handler's ``get`` be reached by signed-in users only.

    Others are redirected to the login page. Needs the users service of
    ``appengine-python-standard``.
    """

    @functools.wraps(handler_method)
    def check_login(self, *args, **kwargs):
        if self.request.method != "GET":
            raise webapp.Error("The check_login decorator can only be used for GET requests")
        users = _users()
        if not users.get_current_user():
            self.redirect(users.create_login_url(self.request.uri))
            return None
        return handler_method(self, *args, **kwargs)

    return check_login


def _users():
    try:
        from google.appengine.api import users
    except ImportError as error:
        raise ImportError(
            "login_required needs google.appengine.api.users, which cannot be imported (%s); "
            "install it with: pip install appengine-python-standard" % (error,)
        )
    return users


def add_wsgi_middleware(application):
    """Wraps `application` as the app's ``appengine_config.py`` says."""
    return webapp._config_handle.add_wsgi_middleware(application)


def run_wsgi_app(application):
    """Runs `application`, with the app's middleware, as a CGI script."""
    run_bare_wsgi_app(add_wsgi_middleware(application))


def run_bare_wsgi_app(application):
    """Runs `application` as a CGI script."""
    handlers.CGIHandler().run(application)
