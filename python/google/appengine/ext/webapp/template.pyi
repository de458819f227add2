from appxmpp.appengine.template import (
    create_template_register,
    load,
    register_template_library,
    render,
)

__all__ = ["create_template_register", "load", "register_template_library", "render"]
