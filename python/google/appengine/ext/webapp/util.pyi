from appxmpp.appengine.webapp_util import (
    add_wsgi_middleware as add_wsgi_middleware,
    login_required as login_required,
    run_bare_wsgi_app as run_bare_wsgi_app,
    run_wsgi_app as run_wsgi_app,
)
