/*
 * The raw gateway: the least a program can do between HTTP and a component stream, at byte level.
 *
 *   POST with a stanza in its body -> the stanza, with our domain as its sender -> 202
 *   message -> POST to BENCH_CALLBACK -> the message in the answer goes back to the sender
 *
 * BENCH_FORM=xml posts the stanza and takes a stanza back (mod_rest's form); BENCH_FORM=appengine posts App Engine's
 * multipart form and takes nothing back. Listens on a port it prints.
 */
#include "http.h"
#include "xmpp.h"

#include <stdlib.h>
#include <string.h>

#define BOUNDARY "----=bench0000000000000000000"

static struct framer framer;
static struct conn *stream;
static struct pool callbacks;
static const char *domain, *callback_host;
static bool appengine;

static const char ACCEPTED[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
static const char BAD[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

static void post_request(struct conn *c)
{
    struct http m;
    while (http_next(&c->in, &m)) {
        struct slice from;
        bool stanza = m.body.n > 8 && *m.body.p == '<';
        if (stanza && xmpp_attr(m.body, "from", &from)) {
            buf_slice(&stream->out, m.body);
        } else if (stanza) {
            size_t name = strcspn(m.body.p, " />");
            buf_put(&stream->out, m.body.p, name);
            buf_printf(&stream->out, " from='%s'", domain);
            buf_put(&stream->out, m.body.p + name, m.body.n - name);
        }
        buf_puts(&c->out, stanza ? ACCEPTED : BAD);
        buf_drop(&c->in, m.size);
    }
    conn_flush(c);
    if (c->closed)
        conn_close(c);
}

/* Whose message a callback is about: "FROM\0TO" in the connection's note. */
static void remember(struct conn *c, struct slice from, struct slice to)
{
    c->note.start = c->note.end = 0;
    buf_slice(&c->note, from), buf_put(&c->note, "", 1);
    buf_slice(&c->note, to), buf_put(&c->note, "", 1);
}

static void callback_answer(struct conn *c)
{
    struct http m;
    if (http_next(&c->in, &m)) {
        const char *from = buf_at(&c->note), *to = from + strlen(from) + 1;
        if (m.status == 200 && m.body.n > 0 && xmpp_is(m.body, "message")) {
            struct slice id = {"", 0};
            xmpp_attr(m.body, "id", &id);
            buf_printf(&stream->out, "<message type='chat' from='%s' to='%s' id='", to, from);
            buf_slice(&stream->out, id), buf_puts(&stream->out, "'>");
            buf_slice(&stream->out, xmpp_rest(m.body));
        } else if (m.status < 200 || m.status > 299) {
            die("the callback answered %.*s", (int)m.start_line.n, m.start_line.p);
        }
        bool closes = http_closes(&m) || c->closed;
        buf_drop(&c->in, m.size);
        c->since = 0;
        if (closes)
            conn_close(c);
        else
            pool_give(&callbacks, c);
    } else if (c->closed) {
        if (!pool_forget(&callbacks, c))
            die("the callback closed its connection without an answer");
        conn_close(c);
    }
}

static void form_field(struct buf *b, const char *name, const char *type, struct slice value)
{
    buf_printf(b, "--" BOUNDARY "\r\nContent-Type: %s; charset=\"UTF-8\"\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n", type, name);
    buf_slice(b, value);
    buf_puts(b, "\r\n");
}

static void post_form(struct conn *c, struct slice from, struct slice to, struct slice stanza)
{
    static struct buf form;
    const char *open = slice_find(stanza, "<body>"), *close = slice_find(stanza, "</body>");
    struct slice body = open && close ? (struct slice){open + 6, (size_t)(close - open - 6)} : (struct slice){"", 0};
    form.start = form.end = 0;
    form_field(&form, "from", "text/plain", from);
    form_field(&form, "to", "text/plain", to);
    form_field(&form, "body", "text/plain", body);
    form_field(&form, "stanza", "text/xml", stanza);
    buf_puts(&form, "--" BOUNDARY "--\r\n");
    buf_printf(&c->out,
               "POST /_ah/xmpp/message/chat/ HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=\"" BOUNDARY "\"\r\n"
               "Content-Length: %zu\r\n\r\n", callback_host, buf_len(&form));
    buf_put(&c->out, buf_at(&form), buf_len(&form));
}

static void deliver(struct slice stanza)
{
    struct slice from, to, type;
    if (!xmpp_is(stanza, "message") || !xmpp_attr(stanza, "from", &from) || !xmpp_attr(stanza, "to", &to))
        return;
    if (xmpp_attr(stanza, "type", &type) && slice_is(type, "error"))
        return;
    struct conn *c = pool_take(&callbacks);
    remember(c, from, to);
    if (appengine) {
        post_form(c, from, to, stanza);
    } else {
        buf_printf(&c->out, "POST /stanzas HTTP/1.1\r\nHost: %s\r\nContent-Type: application/xmpp+xml\r\nContent-Length: %zu\r\n\r\n",
                   callback_host, stanza.n);
        buf_slice(&c->out, stanza);
    }
    conn_flush(c);
}

static void stream_ready(struct conn *c)
{
    struct slice stanza;
    int found;
    while ((found = xmpp_next(&framer, &c->in, &stanza)) > 0) {
        if (callback_host)
            deliver(stanza);
        buf_drop(&c->in, stanza.n);
    }
    if (found < 0 || c->closed)
        die("the server ended the stream");
}

static void flush_stream(void) { conn_flush(stream); }

int main(void)
{
    int port = 0, listener = tcp_listen(&port);
    struct link link;
    const char *form = getenv("BENCH_FORM");
    program_init();
    domain = setting("BENCH_DOMAIN");
    callback_host = getenv("BENCH_CALLBACK");
    callbacks = (struct pool){.address = callback_host, .ready = callback_answer};
    appengine = form && strcmp(form, "appengine") == 0;
    link_dial(&link, setting("BENCH_SERVER"), domain, setting("BENCH_SECRET"));
    stream = conn_new(link.fd, stream_ready);
    stream->in = link.in;
    loop_listen(listener, post_request);
    say("listening %d", port);
    say("ready");
    loop_run(flush_stream);
}
