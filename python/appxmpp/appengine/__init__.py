"""What stands behind the ``google.appengine`` names.

Everything in this package is written in the common subset of Python 2.7 and 3,
because the applications that import it are.
"""
