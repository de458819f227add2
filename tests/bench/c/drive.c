/*
 * drive listen|connect MODE: one end of a component stream, at byte level.
 *
 *   listen    a null server: takes one component in, whatever its secret, and says "listening PORT"
 *   connect   a component of the server at BENCH_SERVER (BENCH_DOMAIN, BENCH_SECRET)
 *
 *   echo      BENCH_WINDOW users, each with one message to BENCH_TO outstanding, BENCH_COUNT in all
 *   sink      counts BENCH_COUNT stanzas of BENCH_KIND (message), again and again
 *   write     on each line of input, writes BENCH_COUNT stanzas of BENCH_KIND to BENCH_TO (to BENCH_RECIPIENTS
 *             numbered ones in turn), serialised beforehand
 *   reply     sends every message back to where it came from
 *   contacts  BENCH_COUNT contacts subscribe to BENCH_TO and come online
 *
 * Bodies have BENCH_BODY bytes. An iq get or set is answered with an empty result (BENCH_IQ=ignore: not at all).
 */
#include "xmpp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FLUSH_AT = 64 * 1024, MAX_WINDOW = 65536 };

struct run {
    struct link link;
    char domain[256];       /* of the users, contacts and senders we play */
    struct buf body;
    const char *to, *kind;
    long count, window;
    bool answer_iqs;
    /* progress */
    long sent, got;
    double first, last;
    double *sent_at;
    struct latencies latencies;
};

typedef void on_stanza(struct run *r, struct slice stanza);

static void flush(struct run *r)
{
    if (!buf_write(&r->link.out, r->link.fd))
        die("the other side closed the connection after %ld of %ld", r->got, r->count);
}

static void answer_iq(struct run *r, struct slice iq)
{
    struct slice type = {0}, id = {0}, from = {0}, to = {0};
    if (!r->answer_iqs || !xmpp_attr(iq, "type", &type) || slice_is(type, "result") || slice_is(type, "error"))
        return;
    xmpp_attr(iq, "id", &id), xmpp_attr(iq, "from", &from), xmpp_attr(iq, "to", &to);
    struct buf *out = &r->link.out;
    buf_printf(out, "<iq type='result' id='%.*s'", (int)id.n, id.p);
    if (to.n)
        buf_printf(out, " from='%.*s'", (int)to.n, to.p);
    if (from.n)
        buf_printf(out, " to='%.*s'", (int)from.n, from.p);
    buf_puts(out, "/>");
}

static void refuse_errors(struct slice stanza)
{
    struct slice type;
    if (xmpp_is(stanza, "stream:error") || (xmpp_attr(stanza, "type", &type) && slice_is(type, "error")))
        die("an error came back: %.*s", (int)stanza.n, stanza.p);
}

/* Waits for the socket, reads, and hands on every whole stanza. */
static void turn(struct run *r, on_stanza *handle)
{
    struct pollfd p = {.fd = r->link.fd, .events = POLLIN};
    if (buf_len(&r->link.out) > 0)
        p.events |= POLLOUT;
    poll(&p, 1, -1);
    if (p.revents & POLLOUT)
        flush(r);
    if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
        return;
    if (buf_read(&r->link.in, r->link.fd) == 0)
        die("the other side closed the connection after %ld of %ld", r->got, r->count);
    struct slice stanza;
    int found;
    while ((found = xmpp_next(&r->link.framer, &r->link.in, &stanza)) > 0) {
        if (xmpp_is(stanza, "iq"))
            answer_iq(r, stanza);
        else
            handle(r, stanza);
        buf_drop(&r->link.in, stanza.n);
    }
    if (found < 0)
        die("the other side ended the stream after %ld of %ld", r->got, r->count);
}

static void report(const struct run *r, const char *more)
{
    double seconds = r->last - r->first;
    say("{\"count\": %ld, \"seconds\": %.6f, \"rate\": %.1f, \"last\": %.6f%s}", r->got, seconds, (double)r->got / seconds, r->last, more);
}

/* ---- echo */

static void send_from_user(struct run *r, long user)
{
    buf_printf(&r->link.out, "<message from='u%05ld@%s/r' to='%s' type='chat' id='m%013ld'><body>", user, r->domain, r->to, r->sent);
    buf_put(&r->link.out, buf_at(&r->body), buf_len(&r->body));
    buf_puts(&r->link.out, "</body></message>");
    r->sent_at[user] = now();
    r->sent++;
}

static void take_echo(struct run *r, struct slice stanza)
{
    struct slice to;
    refuse_errors(stanza);
    if (!xmpp_is(stanza, "message") || !xmpp_attr(stanza, "to", &to) || to.n < 7 || *to.p != 'u')
        return;
    long user = strtol(to.p + 1, NULL, 10);
    if (user < 0 || user >= r->window || !slice_find(stanza, "<body") || stanza.n < buf_len(&r->body))
        die("this is no echo: %.*s", (int)stanza.n, stanza.p);
    r->last = now();
    latencies_add(&r->latencies, r->last - r->sent_at[user], (size_t)r->count);
    r->got++;
    if (r->sent < r->count)
        send_from_user(r, user);
}

static void echo(struct run *r)
{
    if (r->window < 1 || r->window > MAX_WINDOW)
        die("BENCH_WINDOW is %ld: 1 to %d users can be played", r->window, MAX_WINDOW);
    r->sent_at = calloc((size_t)r->window, sizeof *r->sent_at);
    while (wait_for_runner()) {
        r->sent = r->got = 0;
        r->latencies.count = 0;
        r->first = now();
        for (long user = 0; user < r->window && r->sent < r->count; user++)
            send_from_user(r, user);
        while (r->got < r->count) {
            flush(r);
            turn(r, take_echo);
        }
        char more[96];
        snprintf(more, sizeof more, ", \"p50_us\": %.1f, \"p99_us\": %.1f", latencies_us(&r->latencies, 0.5), latencies_us(&r->latencies, 0.99));
        report(r, more);
    }
}

/* ---- sink */

static void count_in(struct run *r, struct slice stanza)
{
    refuse_errors(stanza);
    if (!xmpp_is(stanza, r->kind))
        return;
    if (r->got == 0)
        r->first = now();
    if (++r->got == r->count) {
        r->last = now();
        report(r, "");
        r->got = 0;
    }
}

static void sink(struct run *r)
{
    for (;;) {
        flush(r);
        turn(r, count_in);
    }
}

/* ---- write */

static void ignore(struct run *r, struct slice stanza)
{
    (void)r;
    refuse_errors(stanza);
}

/* The socket is full: waits until it is not, and reads what comes meanwhile. */
static void turn_for_room(struct run *r)
{
    struct pollfd p = {.fd = r->link.fd, .events = POLLIN | POLLOUT};
    poll(&p, 1, -1);
    if (p.revents & (POLLIN | POLLHUP | POLLERR))
        turn(r, ignore);
}

/* Every message has an id of its own: a server spends time on ids it has not seen, and everybody else's are such. */
static void put_one(struct run *r, struct buf *all, long number, long recipients)
{
    const char *at = strchr(r->to, '@');
    char recipient[24] = "";
    if (!at)
        die("BENCH_TO is %s: an address with an @ is needed", r->to);
    if (recipients > 1)
        snprintf(recipient, sizeof recipient, "%ld", number % recipients);
    buf_printf(all, "<%s from='bot@%s/bot' to='%.*s%s%s'", r->kind, r->domain, (int)(at - r->to), r->to, recipient, at);
    if (strcmp(r->kind, "presence") == 0)
        buf_puts(all, "/>");
    else
        buf_printf(all, " type='chat' id='0123456789abcdef-%lx'><body>%.*s</body></message>", number,
                   (int)buf_len(&r->body), buf_at(&r->body));
}

static void write_raw(struct run *r)
{
    struct buf all = {0};
    long recipients = setting_number("BENCH_RECIPIENTS", 1);
    for (long i = 0; i < r->count; i++)
        put_one(r, &all, i, recipients > 1 ? recipients : 1);
    while (wait_for_runner()) {
        struct buf left = all;
        while (buf_len(&left) > 0) {
            if (!buf_write(&left, r->link.fd))
                die("the other side closed the connection with %zu bytes left to write", buf_len(&left));
            if (buf_len(&left) > 0)
                turn_for_room(r);
        }
        say("done");
    }
}

/* ---- reply */

static void send_back(struct run *r, struct slice stanza)
{
    struct slice from, to, id = {0}, type, rest = xmpp_rest(stanza);
    if (!xmpp_is(stanza, "message") || !xmpp_attr(stanza, "from", &from) || !xmpp_attr(stanza, "to", &to))
        return;
    if (xmpp_attr(stanza, "type", &type) && slice_is(type, "error"))
        return;
    xmpp_attr(stanza, "id", &id);
    struct buf *out = &r->link.out;
    buf_puts(out, "<message from='"), buf_slice(out, to);
    buf_puts(out, "' to='"), buf_slice(out, from);
    buf_puts(out, "' id='"), buf_slice(out, id);
    buf_puts(out, "' type='chat'>"), buf_slice(out, rest);
}

static void reply(struct run *r)
{
    for (;;) {
        flush(r);
        turn(r, send_back);
    }
}

/* ---- contacts */

static void count_subscribed(struct run *r, struct slice stanza)
{
    struct slice type;
    refuse_errors(stanza);
    if (xmpp_is(stanza, "presence") && xmpp_attr(stanza, "type", &type) && slice_is(type, "subscribed")) {
        r->last = now();
        r->got++;
    }
}

static void contacts(struct run *r)
{
    while (wait_for_runner()) {
        r->sent = r->got = 0;
        r->first = now();
        while (r->got < r->count) {
            while (r->sent < r->count && buf_len(&r->link.out) < FLUSH_AT) {
                buf_printf(&r->link.out,
                           "<presence from='u%07ld@%s' to='%s' type='subscribe'/><presence from='u%07ld@%s/r' to='%s'/>",
                           r->sent, r->domain, r->to, r->sent, r->domain, r->to);
                r->sent++;
            }
            flush(r);
            turn(r, count_subscribed);
        }
        report(r, "");
    }
}

static void meet(struct run *r, const char *how)
{
    if (strcmp(how, "connect") == 0) {
        snprintf(r->domain, sizeof r->domain, "%s", setting("BENCH_DOMAIN"));
        link_dial(&r->link, setting("BENCH_SERVER"), r->domain, setting("BENCH_SECRET"));
    } else if (strcmp(how, "listen") == 0) {
        int port = 0, listener = tcp_listen(&port);
        char component[256];
        say("listening %d", port);
        link_accept(&r->link, listener, component, sizeof component);
        snprintf(r->domain, sizeof r->domain, "localhost");
    } else {
        die("drive listen|connect MODE, not %s", how);
    }
}

int main(int argc, char **argv)
{
    static const struct mode {
        const char *name;
        void (*run)(struct run *);
    } modes[] = {{"echo", echo}, {"sink", sink}, {"write", write_raw}, {"reply", reply}, {"contacts", contacts}};
    program_init();
    if (argc != 3)
        die("usage: drive listen|connect echo|sink|write|reply|contacts");
    const char *to = getenv("BENCH_TO"), *kind = getenv("BENCH_KIND"), *iq = getenv("BENCH_IQ");
    struct run r = {.to = to ? to : "", .kind = kind ? kind : "message", .answer_iqs = !iq || strcmp(iq, "ignore") != 0};
    r.count = setting_number("BENCH_COUNT", 1);
    r.window = setting_number("BENCH_WINDOW", 1);
    for (long i = setting_number("BENCH_BODY", 100); i > 0; i--)
        buf_put(&r.body, "x", 1);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[2], modes[i].name) != 0)
            continue;
        meet(&r, argv[1]);
        say("ready");
        modes[i].run(&r);
        return 0;
    }
    die("drive has no mode %s", argv[2]);
}
