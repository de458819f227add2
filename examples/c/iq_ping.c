/* Pings an address (XEP-0199) and says how long the answer took.
 *
 *   cc -o iq_ping iq_ping.c $(pkg-config --cflags --libs appxmpp)
 *   APPXMPP_BACKEND=component://bot.example.com:SECRET@localhost ./iq_ping example.com
 *
 * Exit status: 0 it answered, 1 it did not.
 */
#include <appxmpp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 10000 };

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static appxmpp_result ping(const appxmpp_connection *connection, const char *to, appxmpp_error **error)
{
    static const char CHILD[] = "<ping xmlns='urn:xmpp:ping'/>";
    appxmpp_stanza *iq = NULL, *answer = NULL;
    appxmpp_result result = appxmpp_stanza_new(APPXMPP_IQ, &iq, error);
    if (result == APPXMPP_OK)
        result = appxmpp_stanza_set_attribute(iq, "type", APPXMPP_NUL, "get", APPXMPP_NUL, error);
    if (result == APPXMPP_OK)
        result = appxmpp_stanza_set_attribute(iq, "to", APPXMPP_NUL, to, APPXMPP_NUL, error);
    if (result == APPXMPP_OK)
        result = appxmpp_stanza_add_xml(iq, CHILD, APPXMPP_NUL, error);
    double started = milliseconds();
    if (result == APPXMPP_OK)
        result = appxmpp_connection_request(connection, iq, PATIENCE_MS, &answer, error);
    if (result == APPXMPP_OK) {
        /* An error is an answer too: somebody is there who does not know pings. */
        appxmpp_str type = appxmpp_stanza_attribute(answer, "type", APPXMPP_NUL);
        printf("%s answered with a%s in %.2f ms\n", to, strcmp(type.data, "error") == 0 ? "n error" : " result",
               milliseconds() - started);
    }
    appxmpp_stanza_free(answer);
    appxmpp_stanza_free(iq);
    return result;
}

int main(int argc, char **argv)
{
    appxmpp_connection *connection = NULL;
    appxmpp_error *error = NULL;

    if (argc != 2) {
        fprintf(stderr, "usage: %s ADDRESS\n", argv[0]);
        return 2;
    }
    appxmpp_result result = appxmpp_connection_open(NULL, 0, NULL, &connection, &error);
    if (result == APPXMPP_OK)
        result = appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error);
    if (result == APPXMPP_OK)
        result = ping(connection, argv[1], &error);
    if (result != APPXMPP_OK)
        fprintf(stderr, "iq_ping: %s\n", appxmpp_error_text(error).data);
    appxmpp_error_free(error);
    if (connection)
        appxmpp_connection_close(connection, 3000, NULL);
    appxmpp_connection_free(connection);
    return result == APPXMPP_OK ? 0 : 1;
}
