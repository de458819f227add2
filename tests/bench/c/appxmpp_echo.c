/* Echo with libappxmpp on one thread: BENCH_AT_ONCE events at a time, whose answers are written together (64), or one
 * after the other (1), as its users write it. */
#include "common.h"

#include <appxmpp.h>
#include <stdio.h>

enum { PATIENCE_MS = 30000, MOST = 256 };

static void check(appxmpp_result result, appxmpp_error *const *error)
{
    if (result != APPXMPP_OK)
        die("%s: %s", appxmpp_result_name(result), appxmpp_error_text(*error).data);
}

static void done(appxmpp_event *event, int32_t status)
{
    appxmpp_error *error = NULL;
    if (status != APPXMPP_STATUS_NO_ERROR)
        die("an echo was not written");
    check(appxmpp_event_done(event, true, &error), &error);
    appxmpp_event_free(event);
}

static void one(const appxmpp_connection *connection)
{
    appxmpp_error *error = NULL;
    appxmpp_event *event = NULL;
    int32_t status = APPXMPP_STATUS_OTHER_ERROR;
    check(appxmpp_connection_next_event(connection, APPXMPP_FOREVER, &event, &error), &error);
    appxmpp_str from = appxmpp_event_field(event, "from", APPXMPP_NUL);
    appxmpp_str to = appxmpp_event_field(event, "to", APPXMPP_NUL);
    appxmpp_str body = appxmpp_event_field(event, "body", APPXMPP_NUL);
    check(appxmpp_send_message(connection, &from.data, &from.len, 1, body.data, body.len, to.data, to.len, NULL, 0, false,
                               &status, &error), &error);
    done(event, status);
}

static void several(const appxmpp_connection *connection, size_t at_once)
{
    static appxmpp_event *events[MOST];
    static appxmpp_message messages[MOST];
    appxmpp_error *error = NULL;
    size_t count = 0;
    check(appxmpp_connection_next_events(connection, APPXMPP_FOREVER, at_once, events, &count, &error), &error);
    for (size_t i = 0; i < count; i++) {
        messages[i].to = appxmpp_event_field(events[i], "from", APPXMPP_NUL);
        messages[i].from = appxmpp_event_field(events[i], "to", APPXMPP_NUL);
        messages[i].body = appxmpp_event_field(events[i], "body", APPXMPP_NUL);
    }
    check(appxmpp_send_messages(connection, messages, count, &error), &error);
    for (size_t i = 0; i < count; i++)
        done(events[i], messages[i].status);
}

int main(void)
{
    char backend[256];
    appxmpp_connection *connection = NULL;
    appxmpp_error *error = NULL;

    program_init();
    long at_once = setting_number("BENCH_AT_ONCE", 64);
    if (at_once < 1 || at_once > MOST)
        die("BENCH_AT_ONCE is %ld: 1 to %d", at_once, MOST);
    snprintf(backend, sizeof backend, "component://%s:%s@%s", setting("BENCH_DOMAIN"), setting("BENCH_SECRET"),
             setting("BENCH_SERVER"));
    check(appxmpp_connection_open(backend, APPXMPP_NUL, NULL, &connection, &error), &error);
    check(appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error), &error);
    say("ready");
    for (;;)
        if (at_once == 1)
            one(connection);
        else
            several(connection, (size_t)at_once);
}
