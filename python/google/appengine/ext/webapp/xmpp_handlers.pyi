from appxmpp.appengine.handlers import (
    BaseHandler as BaseHandler,
    CommandHandler as CommandHandler,
    CommandHandlerMixin as CommandHandlerMixin,
)
