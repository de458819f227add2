"""Django templates for webapp handlers."""

import os

try:
    from django import conf
    from django.template import Context, Engine, Library
except ImportError as _error:
    raise ImportError(
        "google.appengine.ext.webapp.template needs Django, which cannot be imported (%s); "
        "install it with: pip install django" % (_error,)
    )

_libraries = []
_engines = {}


def render(template_path, template_dict, debug=False):
    """The text of the template file `template_path` with the values of `template_dict`."""
    return load(template_path, debug).render(Context(template_dict))


def load(path, debug=False):
    """The template in the file `path`; those that it extends or includes stand beside it."""
    folder, name = os.path.split(os.path.abspath(path))
    return _engine(folder, debug).get_template(name)


def _engine(folder, debug):
    if not conf.settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        conf.settings.configure()
    key = (folder, debug, tuple(_libraries))
    if key not in _engines:
        builtins = list(Engine.default_builtins) + _libraries
        # Without a cache in debug mode: an edited file shows at once.
        loaders = ["django.template.loaders.filesystem.Loader"]
        if not debug:
            loaders = [("django.template.loaders.cached.Loader", loaders)]
        _engines[key] = Engine(dirs=[folder], debug=debug, builtins=builtins, loaders=loaders)
    return _engines[key]


def create_template_register():
    """An empty library for a module of the app to define tags and filters in."""
    return Library()


def register_template_library(package_name):
    """Makes the tags and filters of a module usable in every template."""
    if package_name not in _libraries:
        _libraries.append(package_name)
