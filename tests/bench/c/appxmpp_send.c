/* Sends messages with libappxmpp from one thread: BENCH_RECIPIENTS in each call, which returns when all are written. */
#include "common.h"

#include <appxmpp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    long count = setting_number("BENCH_COUNT", 0), at_once = setting_number("BENCH_RECIPIENTS", 1);
    long length = setting_number("BENCH_BODY", 100);
    char *body = malloc((size_t)length);
    const char **to = malloc((size_t)at_once * sizeof *to);
    int32_t *statuses = malloc((size_t)at_once * sizeof *statuses);
    if (!body || !to || !statuses || at_once < 1)
        die("BENCH_BODY or BENCH_RECIPIENTS is too large");
    memset(body, 'x', (size_t)length);
    for (long i = 0; i < at_once; i++)
        to[i] = setting("BENCH_TO");

    snprintf(backend, sizeof backend, "component://%s:%s@%s", setting("BENCH_DOMAIN"), setting("BENCH_SECRET"),
             setting("BENCH_SERVER"));
    check(appxmpp_connection_open(backend, APPXMPP_NUL, NULL, &connection, &error), &error);
    check(appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error), &error);
    say("ready");
    while (wait_for_runner()) {
        for (long sent = 0; sent < count; sent += at_once) {
            long now = count - sent < at_once ? count - sent : at_once;
            check(appxmpp_send_message(connection, to, NULL, (size_t)now, body, (size_t)length, NULL, 0, NULL, 0, false,
                                       statuses, &error), &error);
            for (long i = 0; i < now; i++)
                if (statuses[i] != APPXMPP_STATUS_NO_ERROR)
                    die("a message was not written");
        }
        say("done");
    }
    check(appxmpp_connection_close(connection, PATIENCE_MS, &error), &error);
    appxmpp_connection_free(connection);
    free(body);
    free(to);
    free(statuses);
    return 0;
}
