/*
 * An app behind a gateway's webhook, at byte level: echoes every message.
 *
 *   xml          answers mod_rest's callback with the reply as a stanza
 *   appengine    reads App Engine's form, posts the reply to BENCH_REST (BENCH_REST_HOST, BENCH_REST_AUTH), then answers 200
 *
 * Prints its port; BENCH_REST may follow on its input once the gateway's port is known: "rest HOST:PORT".
 */
#include "http.h"
#include "xmpp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pool rest;
static const char *rest_host, *rest_auth;
static bool appengine;

static const char OK_EMPTY[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static struct slice between(struct slice in, const char *start, const char *end)
{
    const char *at = slice_find(in, start);
    if (!at)
        return (struct slice){NULL, 0};
    at += strlen(start);
    struct slice rest_of_it = {at, in.n - (size_t)(at - in.p)};
    const char *stop = slice_find(rest_of_it, end);
    return (struct slice){at, stop ? (size_t)(stop - at) : 0};
}

static struct slice form_value(struct slice form, const char *field)
{
    char mark[64];
    snprintf(mark, sizeof mark, "name=\"%s\"", field);
    const char *at = slice_find(form, mark);
    if (!at)
        return (struct slice){NULL, 0};
    struct slice part = {at, form.n - (size_t)(at - form.p)};
    return between(part, "\r\n\r\n", "\r\n--");
}

static void answer_with_stanza(struct conn *c, const struct http *m)
{
    struct slice body = between(m->body, "<body", "</body>");
    const char *text = body.p ? memchr(body.p, '>', body.n) : NULL;
    if (!text)
        die("a callback without a message body came: %.*s", (int)m->body.n, m->body.p);
    static struct buf reply;
    struct slice id = {"", 0};
    xmpp_attr(m->body, "id", &id);
    reply.start = reply.end = 0;
    buf_puts(&reply, "<message type='chat' id='"), buf_slice(&reply, id), buf_puts(&reply, "'><body>");
    buf_put(&reply, text + 1, (size_t)(body.p + body.n - text - 1));
    buf_puts(&reply, "</body></message>");
    buf_printf(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: application/xmpp+xml\r\nContent-Length: %zu\r\n\r\n", buf_len(&reply));
    buf_put(&c->out, buf_at(&reply), buf_len(&reply));
}

static void rest_answer(struct conn *c)
{
    struct http m;
    if (http_next(&c->in, &m)) {
        if (m.status < 200 || m.status > 299)
            die("the gateway refused a reply: %.*s %.*s", (int)m.start_line.n, m.start_line.p, (int)m.body.n, m.body.p);
        buf_drop(&c->in, m.size);
        buf_puts(&c->peer->out, OK_EMPTY);
        conn_flush(c->peer);
        c->peer->peer = NULL;
        c->peer = NULL;
        pool_give(&rest, c);
    } else if (c->closed) {
        if (!pool_forget(&rest, c))
            die("the gateway closed a connection without an answer");
        conn_close(c);
    }
}

static void reply_over_rest(struct conn *c, const struct http *m)
{
    static struct buf stanza;
    static unsigned long replies;
    struct slice from = form_value(m->body, "from"), to = form_value(m->body, "to"), body = form_value(m->body, "body");
    if (!from.n || !to.n || !body.n || !form_value(m->body, "stanza").n)
        die("a form without from, to, body and stanza came: %.*s", (int)m->body.n, m->body.p);
    stanza.start = stanza.end = 0;
    buf_puts(&stanza, "<message type='chat' from='"), buf_slice(&stanza, to);
    buf_puts(&stanza, "' to='"), buf_slice(&stanza, from);
    buf_printf(&stanza, "' id='0123456789%08lu'><body>", replies++);
    buf_slice(&stanza, body), buf_puts(&stanza, "</body></message>");
    struct conn *r = pool_take(&rest);
    r->peer = c;
    c->peer = r;
    buf_printf(&r->out, "POST /rest HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/xmpp+xml\r\nContent-Length: %zu\r\n\r\n",
               rest_host, rest_auth, buf_len(&stanza));
    buf_put(&r->out, buf_at(&stanza), buf_len(&stanza));
    conn_flush(r);
}

static void request(struct conn *c)
{
    struct http m;
    bool closes = false;
    while (http_next(&c->in, &m)) {
        closes = http_closes(&m);
        if (memcmp(m.start_line.p, "POST", 4) != 0)
            buf_puts(&c->out, OK_EMPTY);
        else if (appengine)
            reply_over_rest(c, &m);
        else
            answer_with_stanza(c, &m);
        buf_drop(&c->in, m.size);
    }
    conn_flush(c);
    if (c->closed && c->peer)
        die("the gateway closed a delivery whose reply is under way");
    if (c->closed || (closes && !appengine))
        conn_close(c);
}

int main(int argc, char **argv)
{
    int port = 0, listener = tcp_listen(&port);
    program_init();
    if (argc != 2 || (strcmp(argv[1], "xml") && strcmp(argv[1], "appengine")))
        die("usage: webhook xml|appengine");
    appengine = strcmp(argv[1], "appengine") == 0;
    say("listening %d", port);
    if (appengine) {
        static char line[128], address[128];
        rest_host = setting("BENCH_REST_HOST"), rest_auth = setting("BENCH_REST_AUTH");
        if (!fgets(line, sizeof line, stdin) || sscanf(line, "rest %127s", address) != 1)
            die("`rest HOST:PORT` was expected on standard input");
        rest = (struct pool){.address = address, .ready = rest_answer};
    }
    loop_listen(listener, request);
    say("ready");
    loop_run(NULL);
}
