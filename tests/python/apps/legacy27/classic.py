"""A script of the CGI days."""
# ruff: noqa

from google.appengine.ext import webapp
from google.appengine.ext.webapp.util import run_wsgi_app


class Page(webapp.RequestHandler):
    def get(self):
        self.response.out.write('a classic page')


def main():
    run_wsgi_app(webapp.WSGIApplication([('/classic', Page)]))


if __name__ == '__main__':
    main()
