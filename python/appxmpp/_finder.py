"""Makes ``google.appengine.api.xmpp`` and its neighbours importable everywhere.

``google`` is shared with other distributions. Where one of them has an
``__init__.py`` in a parent package (``appengine-python-standard`` has), Python
looks nowhere else for its children. The finder here stands at the end of
``sys.meta_path``: it is asked only when every other finder has given up, so it
never hides a module that exists.

Python 2 has no namespace packages and asks ``sys.meta_path`` first; there the
finder looks whether the ordinary import would succeed before it answers.
"""

import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_GOOGLE = os.path.join(os.path.dirname(_HERE), "google")
_FALLBACK = os.path.join(_HERE, "appengine", "fallback")


def _ours(*parts):
    return os.path.join(_GOOGLE, "appengine", *parts)


# Parent packages, and the folders that this distribution adds to them.
_PARENTS = {
    "google": _GOOGLE,
    "google.appengine": _ours(),
    "google.appengine.api": _ours("api"),
    "google.appengine.ext": _ours("ext"),
}

_MODULES = {
    "google.appengine.api.xmpp": _ours("api", "xmpp", "__init__.py"),
    "google.appengine.ext.webapp": _ours("ext", "webapp", "__init__.py"),
    # What the API shares with the rest of Google's SDK, for where that is absent.
    "google.appengine.api.apiproxy_stub": os.path.join(_FALLBACK, "apiproxy_stub.py"),
    "google.appengine.api.apiproxy_stub_map": os.path.join(_FALLBACK, "apiproxy_stub_map.py"),
    "google.appengine.api.capabilities": os.path.join(_FALLBACK, "capabilities.py"),
    "google.appengine.runtime": os.path.join(_FALLBACK, "runtime", "__init__.py"),
    "google.appengine.runtime.apiproxy_errors": os.path.join(
        _FALLBACK, "runtime", "apiproxy_errors.py"
    ),
}

# Modules of Google's SDK that are completed after they have been imported.
_COMPLETED = {
    "google.appengine.api.capabilities": "complete_capabilities",
    "google.appengine.ext.testbed": "complete_testbed",
}


def _search_locations(path):
    return [os.path.dirname(path)] if os.path.basename(path) == "__init__.py" else None


if sys.version_info[0] >= 3:

    class FallbackFinder(object):
        """Finds the modules above when nobody else does."""

        @staticmethod
        def find_spec(fullname, path=None, target=None):
            """The spec of a module of ours, or None."""
            if fullname not in _MODULES and fullname not in _PARENTS:
                return None
            # Not earlier: every start of the interpreter would pay for it.
            import importlib.machinery
            import importlib.util

            source = _MODULES.get(fullname)
            if source is not None:
                return importlib.util.spec_from_file_location(
                    fullname, source, submodule_search_locations=_search_locations(source)
                )
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [_PARENTS[fullname]]
            return spec

    class CompletingFinder(object):
        """Lets Google's SDK import, then adds what it no longer has for XMPP."""

        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            """The spec that another finder gives, with our step after its own."""
            if fullname not in _COMPLETED:
                return None
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                if finder in (cls, FallbackFinder) or find is None:
                    continue
                spec = find(fullname, path, target)
                if spec is not None:
                    return cls._with_completion(spec)
            return None

        @staticmethod
        def _with_completion(spec):
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                from appxmpp.appengine import completions

                getattr(completions, _COMPLETED[spec.name])(module)

            spec.loader.exec_module = exec_module
            return spec

    def install():
        """Adds the finders to ``sys.meta_path``; a second call changes nothing."""
        present = [getattr(finder, "__name__", "") for finder in sys.meta_path]
        if FallbackFinder.__name__ not in present:
            sys.meta_path.insert(0, CompletingFinder)
            sys.meta_path.append(FallbackFinder)

else:
    import imp

    class FallbackFinder(object):
        """Finds the modules above when the ordinary import would not."""

        @classmethod
        def find_module(cls, fullname, path=None):
            """This class as the loader of a module of ours, or None."""
            if fullname not in _MODULES and fullname not in _PARENTS:
                return None
            try:
                found = imp.find_module(fullname.rpartition(".")[2], path)[0]
            except ImportError:
                return cls
            if found is not None:
                found.close()
            return None

        @staticmethod
        def load_module(fullname):
            """Loads a module that `find_module` accepted."""
            if fullname in sys.modules:
                return sys.modules[fullname]
            source = _MODULES.get(fullname)
            if source is None:
                module = sys.modules[fullname] = imp.new_module(fullname)
                module.__path__ = [_PARENTS[fullname]]
                return module
            locations = _search_locations(source)
            if locations:
                return imp.load_module(fullname, None, locations[0], ("", "", imp.PKG_DIRECTORY))
            return imp.load_source(fullname, source)

    def install():
        """Adds the finder to ``sys.meta_path``; a second call changes nothing."""
        present = [getattr(finder, "__name__", "") for finder in sys.meta_path]
        if FallbackFinder.__name__ not in present:
            sys.meta_path.append(FallbackFinder)
