/* Echo with libappxmpp, as its users write it: events on one thread. */
#include "common.h"

#include <appxmpp.h>
#include <stdio.h>

#define PATIENCE_MS 30000

static void check(appxmpp_result result, appxmpp_error *const *error)
{
    if (result != APPXMPP_OK)
        die("%s: %s", appxmpp_result_name(result), appxmpp_error_text(*error).data);
}

int main(void)
{
    char backend[256];
    appxmpp_connection *connection = NULL;
    appxmpp_error *error = NULL;

    program_init();
    snprintf(backend, sizeof backend, "component://%s:%s@%s", setting("BENCH_DOMAIN"), setting("BENCH_SECRET"),
             setting("BENCH_SERVER"));
    check(appxmpp_connection_open(backend, APPXMPP_NUL, NULL, &connection, &error), &error);
    check(appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error), &error);
    say("ready");
    for (;;) {
        appxmpp_event *event = NULL;
        check(appxmpp_connection_next_event(connection, APPXMPP_FOREVER, &event, &error), &error);
        appxmpp_str from = appxmpp_event_field(event, "from", APPXMPP_NUL);
        appxmpp_str to = appxmpp_event_field(event, "to", APPXMPP_NUL);
        appxmpp_str body = appxmpp_event_field(event, "body", APPXMPP_NUL);
        int32_t status = APPXMPP_STATUS_OTHER_ERROR;
        check(appxmpp_send_message(connection, &from.data, &from.len, 1, body.data, body.len, to.data, to.len, NULL, 0,
                                   false, &status, &error), &error);
        if (status != APPXMPP_STATUS_NO_ERROR)
            die("an echo was not written");
        check(appxmpp_event_done(event, true, &error), &error);
        appxmpp_event_free(event);
    }
}
