"""Django templates for webapp handlers."""

from appxmpp.appengine.template import (
    Context,
    create_template_register,
    load,
    register_template_library,
    render,
)

__all__ = ["Context", "create_template_register", "load", "register_template_library", "render"]
