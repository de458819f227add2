/* Echo with libstrophe's component, as its users write it. */
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <strophe.h>

static int on_message(xmpp_conn_t *conn, xmpp_stanza_t *stanza, void *context)
{
    const char *type = xmpp_stanza_get_type(stanza), *id = xmpp_stanza_get_id(stanza);
    char *body = xmpp_message_get_body(stanza);
    if (body && !(type && strcmp(type, "error") == 0)) {
        xmpp_stanza_t *reply = xmpp_stanza_reply(stanza);
        /* A reply has our own address only if it is set. */
        xmpp_stanza_set_from(reply, xmpp_stanza_get_to(stanza));
        xmpp_stanza_set_id(reply, id ? id : "");
        xmpp_message_set_body(reply, body);
        xmpp_send(conn, reply);
        xmpp_stanza_release(reply);
    }
    xmpp_free(context, body);
    return 1;
}

static void on_connection(xmpp_conn_t *conn, xmpp_conn_event_t event, int error, xmpp_stream_error_t *stream_error, void *context)
{
    (void)error, (void)stream_error;
    if (event != XMPP_CONN_CONNECT)
        die("libstrophe lost its connection");
    xmpp_handler_add(conn, on_message, NULL, "message", NULL, context);
    say("ready");
}

static void on_failure(xmpp_conn_t *conn, xmpp_conn_event_t event, int error, xmpp_stream_error_t *stream_error, void *failed)
{
    (void)conn, (void)event, (void)error, (void)stream_error;
    *(bool *)failed = true;
}

/*
 * libstrophe 0.12 reads stream management state that only an attempt to connect as a client makes: without it a
 * component crashes at its first stanza. So a client tries port 1, where nobody listens, and leaves us its state.
 */
static void give_state(xmpp_ctx_t *context, xmpp_conn_t *conn)
{
    bool failed = false;
    xmpp_conn_t *client = xmpp_conn_new(context);
    xmpp_conn_set_jid(client, "user@localhost");
    xmpp_conn_set_pass(client, "none");
    if (xmpp_connect_client(client, "127.0.0.1", 1, on_failure, &failed) == XMPP_EOK)
        while (!failed)
            xmpp_run_once(context, 1);
    xmpp_sm_state_t *state = xmpp_conn_get_sm_state(client);
    if (!state || xmpp_conn_set_sm_state(conn, state) != XMPP_EOK)
        die("libstrophe has no stream management state to give");
    xmpp_conn_release(client);
}

int main(void)
{
    program_init();
    xmpp_initialize();
    xmpp_ctx_t *context = xmpp_ctx_new(NULL, NULL);
    xmpp_conn_t *conn = xmpp_conn_new(context);
    char *server = strdup(setting("BENCH_SERVER")), *colon = strrchr(server, ':');
    *colon = 0;
    xmpp_conn_set_jid(conn, setting("BENCH_DOMAIN"));
    xmpp_conn_set_pass(conn, setting("BENCH_SECRET"));
    /* Its loop rests for this long (ms) between rounds; the smallest is its fastest. */
    xmpp_ctx_set_timeout(context, 1);
    give_state(context, conn);
    if (xmpp_connect_component(conn, server, (unsigned short)atoi(colon + 1), on_connection, context) != XMPP_EOK)
        die("libstrophe cannot connect");
    xmpp_run(context);
    free(server);
    return 0;
}
