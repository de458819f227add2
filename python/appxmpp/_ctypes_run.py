"""``python -m appxmpp run app.yaml`` for Python 2.7: an application's chat and its web pages.

It does what `appxmpp run` of Python 3 does for handlers with a ``script:``. Static files belong to
the web server in front. It needs PyYAML (5.4.1 is the last for 2.7); waitress (1.4.4) serves the
web pages if it is installed, otherwise wsgiref does, which is for small loads.
"""

from __future__ import print_function

import argparse
import importlib
import io
import logging
import os
import re
import runpy
import signal
import sys
import threading
import time
import wsgiref.handlers
import wsgiref.simple_server

from appxmpp import __version__, backend, errors
from appxmpp.app_id import application_id, strip, version_at
from appxmpp.posts import REMOTE_ADDR, addresses, form

if sys.version_info[0] >= 3:
    from socketserver import ThreadingMixIn
    from urllib.parse import unquote_to_bytes as _unquote
else:
    from urllib import unquote as _unquote

    from SocketServer import ThreadingMixIn

log = logging.getLogger("appxmpp")

OK, RUNTIME, USAGE, REFUSED, CONFIG = 0, 1, 2, 77, 78


class Exit(Exception):
    """Ends the command with `code`; the text is for the person at the terminal."""

    def __init__(self, text, code=CONFIG):
        super(Exit, self).__init__(text)
        self.code = code


def read(path):
    """The mapping in the app.yaml at `path`, a file or its folder, and the file's own path."""
    if os.path.isdir(path):
        path = os.path.join(path, "app.yaml")
    path = os.path.abspath(path)
    try:
        import yaml
    except ImportError:
        raise Exit("reading app.yaml needs PyYAML: pip install 'PyYAML<6'")
    try:
        with io.open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except (IOError, OSError) as error:
        raise Exit("%s cannot be read: %s" % (path, error.strerror))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Exit("%s is not valid YAML: %s" % (path, error))
    if not isinstance(data, dict):
        raise Exit(
            "%s is no app.yaml: it has no keys such as `application:` and `handlers:`" % path
        )
    return data, path


class Application(object):
    """The handlers of an app.yaml as one WSGI application."""

    def __init__(self, config, path):
        self._path = path
        self._root = os.path.dirname(path)
        os.chdir(self._root)
        if self._root not in sys.path:
            sys.path.insert(0, self._root)
        scripts, self._routes, threadsafe = {}, [], config.get("threadsafe")
        for handler in config.get("handlers") or [{"url": "/.*", "script": "main.app"}]:
            url, script = handler.get("url"), handler.get("script")
            if not url or not script or script.startswith("$PYTHON_LIB"):
                log.warning(
                    "%s: not used here: the handler of %s, which has no script of the app",
                    path,
                    url,
                )
                continue
            if script not in scripts:
                scripts[script] = self._load(str(script))
            try:
                pattern = re.compile("(?:%s)\\Z" % url)
            except re.error as error:
                raise Exit("%s: the url %r is not a regular expression: %s" % (path, url, error))
            self._routes.append((pattern, scripts[script], handler.get("login")))
        if threadsafe is None:
            threadsafe = not any(script.endswith(".py") for script in scripts)
        # App Engine gave an app without `threadsafe: true` one request at a time.
        self._turn = None if threadsafe else threading.Lock()

    def _load(self, script):
        try:
            if script.endswith(".py"):
                app = self._handed_over(os.path.join(self._root, script))
            else:
                name, _, attribute = script.rpartition(".")
                app = getattr(importlib.import_module(name), attribute)
        except Exit:
            raise
        except Exception as error:
            log.exception("%s: script: %s", self._path, script)
            raise Exit(
                "%s: script: %s could not be imported: %s (traceback above)"
                % (self._path, script, error),
                RUNTIME,
            )
        if not callable(app):
            raise Exit("%s: script: %s is no WSGI application" % (self._path, script))
        return app

    def _handed_over(self, file):
        """The application that a CGI script gives to run_wsgi_app or CGIHandler when it is run."""
        apps, run = [], wsgiref.handlers.CGIHandler.run
        wsgiref.handlers.CGIHandler.run = lambda _, app: apps.append(app)
        try:
            runpy.run_path(file, run_name="__main__")
        finally:
            wsgiref.handlers.CGIHandler.run = run
        if not apps:
            raise Exit(
                "%s: script: %s does not call run_wsgi_app(application) when it is run"
                % (self._path, file)
            )
        return apps[0]

    def __call__(self, environ, start_response):
        for pattern, app, login in self._routes:
            if not pattern.match(environ.get("PATH_INFO") or "/"):
                continue
            if login in ("required", "admin") and not environ.get("appxmpp.admin"):
                return plain(
                    start_response,
                    "403 Forbidden",
                    "app.yaml protects this path, and nobody can sign in here.\n",
                )
            if self._turn is None:
                return app(environ, start_response)
            with self._turn:
                return _whole(app(environ, start_response))
        return plain(start_response, "404 Not Found", "No handler in app.yaml matches this path.\n")


def _whole(result):
    try:
        return list(result)
    finally:
        if hasattr(result, "close"):
            result.close()


def plain(start_response, status, text):
    """Answers with `text`."""
    body = text.encode("utf-8")
    start_response(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]


def outside(app):
    """`app` as the network may reach it: without /_ah/ and App Engine's own headers."""

    def call(environ, start_response):
        if is_internal(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")):
            return plain(
                start_response, "403 Forbidden", "Only the chat service calls /_ah/ paths.\n"
            )
        for name in [name for name in environ if name.startswith("HTTP_X_APPENGINE_")]:
            del environ[name]
        return app(environ, start_response)

    return call


_SEPARATORS, _IGNORED = re.compile(b"[/\\\\]"), re.compile(b"[\\x00-\\x20\\x7f-\\xa0]")


def is_internal(path):
    """Whether any reading of `path` names /_ah: encoded, in capitals, with parameters or dots."""
    data = path.encode("latin-1") if not isinstance(path, bytes) else path
    for _ in range(8):
        decoded = _unquote(data)
        if decoded == data:
            names = re.split(_SEPARATORS, re.sub(_IGNORED, b"", data.lower()))
            return any(name.partition(b";")[0] == b"_ah" for name in names)
        data = decoded
    return True


class Caller(object):
    """Makes the request of one delivery to the application, on the calling thread."""

    def __init__(self, app, host):
        self._app = app
        self._host = host

    def post(self, path, fields, delivery_id=None):
        """The status the app answers with; 500, logged with its traceback, where it raises."""
        status = 404
        for address in addresses(path):
            try:
                status = self._request(address, fields, delivery_id)
            except Exception:
                log.exception("the handler of %s raised", address)
                return 500
            if status != 404:
                break
        return status

    def _request(self, path, fields, delivery_id):
        content_type, body = form(fields)
        name, _, port = self._host.partition(":")
        environ = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": name,
            "SERVER_PORT": port or "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": self._host,
            "REMOTE_ADDR": REMOTE_ADDR,
            "HTTP_X_APPENGINE_FAKE_IS_ADMIN": "1",
            "USER_IS_ADMIN": "1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "appxmpp.admin": True,
        }
        if delivery_id is not None:
            environ["HTTP_APPXMPP_DELIVERY"] = str(delivery_id)
        statuses = []

        def start_response(status, headers, exc_info=None):
            statuses.append(status)
            return lambda data: None

        _whole(self._app(environ, start_response))
        return int(statuses[-1].split()[0])


class Dispatcher(object):
    """Threads that take deliveries and make their requests, until `stop`."""

    def __init__(self, chat, post, workers, failed):
        self._chat, self._post, self._failed = chat, post, failed
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(workers)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self, timeout):
        """Deliver what is waiting and no more."""
        self._stopping.set()
        end = time.time() + timeout
        for thread in self._threads:
            thread.join(max(0.0, end - time.time()))

    def _work(self):
        try:
            while True:
                stopping = self._stopping.is_set()
                batch = self._chat.next_batch(1, 0.0 if stopping else 0.5)
                for delivery in batch:
                    status = 500
                    try:
                        status = self._post(delivery.path, delivery.fields, delivery.id)
                    finally:
                        self._chat.done(delivery, status)
                    log.info("%s from %s: %d", delivery.path, delivery.sender, status)
                if stopping and not batch:
                    return
        except Exception as error:
            self._failed(error)


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    timeout = 30

    def log_message(self, *arguments):
        pass


class _Threaded(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


def serve(app, host, port):
    """Serves `app` on a thread; HOST:PORT."""
    try:
        try:
            import waitress
        except ImportError:
            log.warning(
                "web pages are served by wsgiref, for small loads only; pip install waitress==1.4.4"
            )
            server = _Threaded((host, port), _Quiet)
            server.set_app(app)
            run, port = server.serve_forever, server.server_port
        else:
            server = waitress.create_server(app, host=host, port=port, ident=None)
            run, port = server.run, int(server.effective_port)
    except (IOError, OSError) as error:
        raise Exit(
            "cannot listen at %s:%s: %s; choose another with --host and --port"
            % (host, port, error),
            RUNTIME,
        )
    thread = threading.Thread(target=run)
    thread.daemon = True
    thread.start()
    return "%s:%d" % (host, port)


def run(options):
    """Runs the application until a signal or a failure ends it; the exit code."""
    from appxmpp import _ctypes

    address = os.environ.get("APPXMPP_BACKEND")
    if not address:
        raise Exit(
            "APPXMPP_BACKEND is not set; set it to component://DOMAIN@HOST:PORT, and APPXMPP_SECRET"
        )
    config, path = read(options.app_yaml)
    services = [
        str(name) for name in config.get("inbound_services") or [] if str(name).startswith("xmpp_")
    ]
    app_id = application_id() or strip(str(config.get("application") or "")) or None
    settings = backend.settings(os.environ)
    configured = str(config.get("version") or "1")
    own = address.partition("://")[2].partition("@")[0].partition(":")[0]
    settings["version"] = settings["version"] or version_at(own, configured)
    chat = _ctypes.App(
        address, secret=backend.secret(os.environ), app_id=app_id, inbound_services=services,
        state=os.environ.get("APPXMPP_STATE") or None, **settings
    )  # fmt: skip
    ended, failures = threading.Event(), []

    def failed(error):
        failures.append(error)
        ended.set()

    for name, value in (config.get("env_variables") or {}).items():
        os.environ.setdefault(str(name), str(value))
    os.environ.setdefault("APPLICATION_ID", "s~" + chat.app_id)
    os.environ.setdefault("CURRENT_VERSION_ID", "%s.1" % (settings["version"] or configured))
    os.environ.setdefault("SERVER_SOFTWARE", "appxmpp/" + __version__)
    backend.set(backend.Embedded(chat))
    app = Application(config, path)
    host = chat.domain
    if options.port is not None:
        host = serve(outside(app), options.host, options.port)
        log.info("serving http://%s/", host)
    os.environ.setdefault("HTTP_HOST", host)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    dispatcher = Dispatcher(chat, Caller(app, host).post, options.workers, failed)
    if chat.wait_ready(10):
        log.info("connected as %s", chat.domain)
    else:
        log.warning("not connected yet; it is tried again, for as long as it takes")
    while not ended.is_set():
        # Python 2 runs signal handlers only between waits that end.
        ended.wait(0.5)
    if not failures:
        dispatcher.stop(options.drain)
    chat.close(5.0)
    if not failures:
        return OK
    log.error("%s", failures[0])
    return REFUSED if isinstance(failures[0], errors.NotAuthorizedError) else RUNTIME


def _port(text):
    return None if text == "none" else int(text)


def main(arguments=None):
    """The command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m appxmpp", description=__doc__.partition("\n")[0]
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    command = commands.add_parser("run", help="run an application")
    command.add_argument("app_yaml", nargs="?", default="app.yaml")
    command.add_argument(
        "--host", default="127.0.0.1", help="where web pages are served (default 127.0.0.1)"
    )
    command.add_argument(
        "--port", default=8080, type=_port, help="the port, or none (default 8080)"
    )
    command.add_argument(
        "--workers", default=8, type=int, help="deliveries at work at a time (default 8)"
    )
    command.add_argument(
        "--drain", default=20.0, type=float, help="seconds to finish them in (default 20)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return run(options)
    except Exit as error:
        print("appxmpp: %s" % error, file=sys.stderr)
        return error.code
    except errors.NotAuthorizedError as error:
        print("appxmpp: %s" % error, file=sys.stderr)
        return REFUSED
    except (errors.ConfigError, ImportError) as error:
        print("appxmpp: %s" % error, file=sys.stderr)
        return CONFIG
