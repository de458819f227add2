"""Imports an application the way app.yaml names it, and finds its WSGI callables."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import runpy
import sys
import traceback
import types
import wsgiref.handlers
from collections.abc import Callable, Iterator
from typing import Any

from appxmpp.appyaml import AppYaml
from appxmpp.exits import RUNTIME, Exit

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]

Middleware = Callable[[WsgiApp], WsgiApp]

_OUR_FILES = (__file__, importlib.__file__, runpy.__file__, "<frozen ")


def load(config: AppYaml) -> dict[str, WsgiApp]:
    """The WSGI callable of every script that `config` names.

    The folder of app.yaml becomes the working folder and the first import folder, as on App
    Engine. An application that cannot be imported is an Exit that holds its traceback.
    """
    os.chdir(config.root)
    if config.root not in sys.path:
        sys.path.insert(0, config.root)
    middleware = _middleware(config)
    apps: dict[str, WsgiApp] = {}
    for script in (handler.script for handler in config.handlers):
        if script and script not in apps:
            load_one = _cgi_script if script.endswith(".py") else _wsgi_script
            apps[script] = load_one(script, config, middleware)
    return apps


def _middleware(config: AppYaml) -> Middleware:
    """`webapp_add_wsgi_middleware` of the app's appengine_config.py, where there is one."""
    if not os.path.exists(os.path.join(config.root, "appengine_config.py")):
        return lambda app: app
    module = _run("appengine_config.py", config, importlib.import_module, "appengine_config")
    wrap = getattr(module, "webapp_add_wsgi_middleware", None)
    if not callable(wrap):
        return lambda app: app
    return lambda app: _run("appengine_config.py", config, wrap, app)


def _wsgi_script(script: str, config: AppYaml, middleware: Middleware) -> WsgiApp:
    name, _, attribute = script.rpartition(".")
    if not name:
        raise Exit(
            f"{config.path}: script: {script} names no variable. "
            f"Write `script: {script}.app` for the variable app of {script}.py, "
            f"or `script: {script}.py`."
        )
    if not _module_exists(name, config):
        raise Exit(f"{config.path}: script: {script}: there is no module {name} in {config.root}.")
    module = _run(script, config, importlib.import_module, name)
    _check_origin(module, config)
    try:
        app = getattr(module, attribute)
    except AttributeError:
        raise Exit(
            f"{config.path}: script: {script}: {module.__file__} has no variable {attribute}."
        ) from None
    if not callable(app):
        raise Exit(
            f"{config.path}: script: {script} is a {type(app).__name__}, not a WSGI application."
        )
    return middleware(app)


def _module_exists(name: str, config: AppYaml) -> bool:
    # Only the first part is looked up: the parents of the rest would have to be imported for it.
    return bool(_run(name, config, importlib.util.find_spec, name.partition(".")[0]))


def _check_origin(module: types.ModuleType, config: AppYaml) -> None:
    """A module that was imported earlier hides the app's own of the same name."""
    own = os.path.join(config.root, *module.__name__.split(".")) + ".py"
    found = getattr(module, "__file__", None)
    if os.path.exists(own) and (found is None or not os.path.samefile(found, own)):
        raise Exit(
            f"{own} is hidden by the module {module.__name__} at {found or 'the interpreter'}. "
            "Rename the file, and the script in app.yaml."
        )


def _cgi_script(script: str, config: AppYaml, middleware: Middleware) -> WsgiApp:
    """The application of a script that App Engine ran once per request, CGI style.

    Such a script hands its application to run_wsgi_app or CGIHandler when it is run. It is run
    once, here, and the application it hands over is kept: the state of a request then lives in
    its WSGI environ, not in os.environ and standard output, which threads share.
    """
    path = os.path.join(config.root, script)
    if not os.path.isfile(path):
        raise Exit(f"{config.path}: script: {script}: there is no file {path}.")
    with _handed_over() as apps:
        module = _run(script, config, _import_file, script, path)
        main = getattr(module, "main", None)
        if not apps and callable(main) and not _required_arguments(main):
            _run(script, config, main)
        if not apps:
            named = (getattr(module, name, None) for name in ("application", "app"))
            apps.extend(middleware(app) for app in named if callable(app))
        if not apps:
            _run(script, config, functools.partial(runpy.run_path, path, run_name="__main__"))
    if not apps:
        raise Exit(
            f"{config.path}: script: {script} neither calls run_wsgi_app(application) "
            "nor defines a variable called application or app, so nothing can answer requests."
        )
    return apps[0]


def _required_arguments(function: Any) -> int:
    code = getattr(function, "__code__", None)
    return code.co_argcount - len(function.__defaults__ or ()) if code else 0


def _import_file(script: str, path: str) -> types.ModuleType:
    name = os.path.splitext(script)[0].replace("/", ".")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _handed_over() -> Iterator[list[WsgiApp]]:
    """The applications given to a CGI runner meanwhile; no runner runs."""
    apps: list[WsgiApp] = []

    def take(_: Any, app: WsgiApp) -> None:
        apps.append(app)

    # run_wsgi_app and webapp2's run() end here too, with the app's middleware applied.
    run = wsgiref.handlers.CGIHandler.run
    wsgiref.handlers.CGIHandler.run = take  # type: ignore[assignment]
    try:
        yield apps
    finally:
        wsgiref.handlers.CGIHandler.run = run  # type: ignore[method-assign]


def _run(script: str, config: AppYaml, function: Callable[..., Any], *args: Any) -> Any:
    """Call the app's code; what it raises becomes an Exit with its part of the traceback."""
    try:
        return function(*args)
    except Exit:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        text = "".join(traceback.format_exception(type(error), error, _app_frames(error)))
        raise Exit(
            f"{text}{config.path}: script: {script} could not be imported (traceback above)."
            + _advice(error),
            RUNTIME,
        ) from None


def _app_frames(error: BaseException) -> types.TracebackType | None:
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename.startswith(_OUR_FILES):
        frame = frame.tb_next
    return frame


def _advice(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"\nPython {version} cannot read it. Code written for Python 2.7 has to be converted "
            "first, for example with 2to3."
        )
    if isinstance(error, ImportError) and error.name:
        if error.name.startswith("webapp2"):
            return "\nwebapp2 for Python 3 comes with: pip install 'appxmpp[run]'"
        if error.name.startswith("google.appengine"):
            return (
                "\nappxmpp brings the chat service and webapp. Other App Engine services come "
                "with: pip install appengine-python-standard"
            )
    return ""
