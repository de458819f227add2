/*
 * httpload post|hold: load for POST /rest at BENCH_HTTP (BENCH_HOST, BENCH_AUTH), over BENCH_CONNECTIONS connections.
 *
 *   post    on each line of input: BENCH_COUNT messages to BENCH_TO, one request at a time on each connection
 *   hold    on each line of input: one iq get to BENCH_TO on each of that many more connections, whose answers never
 *           come; says "held"
 */
#include "http.h"

#include <stdlib.h>
#include <string.h>

static const char *request_head, *to;
static long count, connections, sent, answered, in_flight;
static struct latencies latencies;
/* A message, and where in it the digits of its id are. */
static struct buf body;
static size_t digits;

enum { DIGITS = 8 };

static void post(struct conn *c, const char *stanza, size_t n)
{
    buf_printf(&c->out, "%sContent-Length: %zu\r\n\r\n", request_head, n);
    buf_put(&c->out, stanza, n);
    c->since = now();
    in_flight++;
    sent++;
    conn_flush(c);
}

/* Every message has an id of its own: who has to make one up, and the server that sees it, would do more work. */
static void post_next(struct conn *c)
{
    char *at = buf_at(&body) + digits + DIGITS;
    for (long left = sent, i = 0; i < DIGITS; i++, left /= 10)
        *--at = (char)('0' + left % 10);
    post(c, buf_at(&body), buf_len(&body));
}

static void answer(struct conn *c)
{
    struct http m;
    while (http_next(&c->in, &m)) {
        if (m.status != 202)
            die("an answer other than 202: %.*s %.*s", (int)m.start_line.n, m.start_line.p, (int)m.body.n, m.body.p);
        latencies_add(&latencies, now() - c->since, (size_t)count);
        bool closes = http_closes(&m);
        buf_drop(&c->in, m.size);
        answered++;
        in_flight--;
        if (closes)
            die("the gateway does not keep connections alive");
        if (sent < count)
            post_next(c);
    }
    if (c->closed)
        die("the gateway closed a connection after %ld of %ld answers", answered, count);
}

static struct conn **open_all(void (*ready)(struct conn *))
{
    const char *address = setting("BENCH_HTTP");
    struct conn **all = calloc((size_t)connections, sizeof(struct conn *));
    for (long i = 0; i < connections; i++)
        all[i] = conn_new(tcp_connect(address), ready);
    return all;
}

static void post_rounds(void)
{
    struct conn **all = open_all(answer);
    buf_printf(&body, "<message to='%s' type='chat' id='0123456789", to);
    digits = buf_len(&body);
    buf_puts(&body, "00000000'><body>");
    for (long i = setting_number("BENCH_BODY", 100); i > 0; i--)
        buf_put(&body, "x", 1);
    buf_puts(&body, "</body></message>");
    say("ready");
    while (wait_for_runner()) {
        sent = answered = 0;
        latencies.count = 0;
        double start = now();
        for (long i = 0; i < connections && sent < count; i++)
            post_next(all[i]);
        while (answered < count)
            loop_turn();
        say("{\"count\": %ld, \"first\": %.6f, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}", count, start, now() - start,
            latencies_us(&latencies, 0.5), latencies_us(&latencies, 0.99));
    }
}

static void held_answer(struct conn *c)
{
    struct http m;
    if (http_next(&c->in, &m))
        die("a held request was answered: %.*s %.*s", (int)m.start_line.n, m.start_line.p, (int)m.body.n, m.body.p);
    if (c->closed)
        die("a held request was closed");
}

static void hold(void)
{
    while (wait_for_runner()) {
        struct conn **all = open_all(held_answer);
        for (long i = 0; i < connections; i++) {
            struct buf iq = {0};
            buf_printf(&iq, "<iq type='get' id='h%ld' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>", sent, to);
            post(all[i], buf_at(&iq), buf_len(&iq));
            buf_free(&iq);
        }
        free(all);
        say("held");
    }
}

int main(int argc, char **argv)
{
    static struct buf head;
    program_init();
    count = setting_number("BENCH_COUNT", 1);
    connections = setting_number("BENCH_CONNECTIONS", 1);
    to = setting("BENCH_TO");
    buf_printf(&head, "POST /rest HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Type: application/xmpp+xml\r\n",
               setting("BENCH_HOST"), setting("BENCH_AUTH"));
    buf_put(&head, "", 1);
    request_head = buf_at(&head);
    if (argc == 2 && strcmp(argv[1], "post") == 0)
        post_rounds();
    else if (argc == 2 && strcmp(argv[1], "hold") == 0)
        hold();
    else
        die("usage: httpload post|hold");
    return 0;
}
