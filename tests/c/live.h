/* A connection to the peer of the tests (tests/python/c_peer.py), which does what it is told in messages. */
#ifndef APPXMPP_TESTS_LIVE_H
#define APPXMPP_TESTS_LIVE_H

#include "check.h"

/* Opens a connection to APPXMPP_BACKEND and waits until it is up. */
static inline appxmpp_connection *live(const appxmpp_options *options)
{
    appxmpp_connection *connection = NULL;
    OK(appxmpp_connection_open(NULL, 0, options, &connection, &error));
    OK(appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error));
    return connection;
}

/* One message to one recipient, written. */
static inline void message(const appxmpp_connection *connection, const char *to, const char *body)
{
    int32_t status = -1;
    OK(appxmpp_send_message(connection, &to, NULL, 1, body, APPXMPP_NUL, NULL, 0, NULL, 0, false, &status, &error));
    CHECK(status == APPXMPP_STATUS_NO_ERROR);
}

/* Has the peer write `xml` into the stream. */
static inline void peer_sends(const appxmpp_connection *connection, const char *xml)
{
    message(connection, "write@peer", xml);
}

static inline appxmpp_event *next(const appxmpp_connection *connection)
{
    appxmpp_event *event = NULL;
    OK(appxmpp_connection_next_event(connection, PATIENCE_MS, &event, &error));
    CHECK(event != NULL);
    return event;
}

static inline void handled(appxmpp_event *event)
{
    OK(appxmpp_event_done(event, true, &error));
    appxmpp_event_free(event);
}

#endif
