/* A whole bot: it answers each message with what it says, and lets everybody see that it is there.
 *
 *   cc -o echo echo.c $(pkg-config --cflags --libs appxmpp)
 *   APPXMPP_BACKEND=component://bot.example.com:SECRET@localhost ./echo
 *
 * Write to anything@bot.example.com. Ctrl-C ends it.
 */
#include <appxmpp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static sigset_t ends;

/* Says what failed; true if nothing did. The end of the program is no failure. */
static bool ok(appxmpp_result result, appxmpp_error **error)
{
    if (result != APPXMPP_OK && result != APPXMPP_INTERRUPTED)
        fprintf(stderr, "echo: %s\n", appxmpp_error_text(*error).data);
    appxmpp_error_free(*error);
    *error = NULL;
    return result == APPXMPP_OK;
}

/* The one place where signals are taken: an interrupt must not come from a signal handler. */
static void *wait_for_the_end(void *connection)
{
    int number;
    sigwait(&ends, &number);
    appxmpp_connection_interrupt(connection);
    return NULL;
}

static bool answer(const appxmpp_connection *bot, const appxmpp_event *event)
{
    appxmpp_str from = appxmpp_event_field(event, "from", APPXMPP_NUL);
    appxmpp_str to = appxmpp_event_field(event, "to", APPXMPP_NUL);
    appxmpp_str body = appxmpp_event_field(event, "body", APPXMPP_NUL);
    appxmpp_error *error = NULL;
    int32_t status = APPXMPP_STATUS_NO_ERROR;

    if (strcmp(appxmpp_event_service(event).data, "xmpp_message") != 0)
        return true;
    /* From the address that was written to, to the one that wrote; NULL is the type: chat. */
    return ok(appxmpp_send_message(bot, &from.data, &from.len, 1, body.data, body.len, to.data, to.len, NULL, 0, false,
                                   &status, &error), &error) && status == APPXMPP_STATUS_NO_ERROR;
}

int main(void)
{
    appxmpp_connection *bot = NULL;
    appxmpp_error *error = NULL;
    pthread_t waiter;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);
    /* NULL: the backend that APPXMPP_BACKEND names. */
    if (!ok(appxmpp_connection_open(NULL, 0, NULL, &bot, &error), &error))
        return 1;
    pthread_create(&waiter, NULL, wait_for_the_end, bot);
    pthread_detach(waiter);
    appxmpp_result result = appxmpp_connection_wait_ready(bot, APPXMPP_FOREVER, &error);
    if (ok(result, &error)) {
        printf("%s is there\n", appxmpp_connection_address(bot).data);
        fflush(stdout);
    }
    while (result == APPXMPP_OK) {
        appxmpp_event *event = NULL;
        result = appxmpp_connection_next_event(bot, APPXMPP_FOREVER, &event, &error);
        if (!ok(result, &error))
            break;
        bool answered = answer(bot, event);
        appxmpp_event_done(event, answered, NULL);
        appxmpp_event_free(event);
    }
    appxmpp_connection_close(bot, 3000, NULL);
    appxmpp_connection_free(bot);
    return result == APPXMPP_INTERRUPTED ? 0 : 1;
}
