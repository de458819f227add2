#include "xmpp.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Moves over the rest of a tag; true when its '>' was met. */
static bool pass_tag(struct framer *f, const char *p, size_t n)
{
    while (f->pos < n) {
        char c = p[f->pos++];
        if (f->quote) {
            if (c == f->quote)
                f->quote = 0;
        } else if (c == '"' || c == '\'') {
            f->quote = c;
        } else if (c == '>') {
            return true;
        }
    }
    return false;
}

int xmpp_next(struct framer *f, struct buf *in, struct slice *out)
{
    if (f->pos == 0)
        while (buf_len(in) > 0 && is_space(*buf_at(in)))
            buf_drop(in, 1);
    const char *p = buf_at(in);
    size_t n = buf_len(in);
    for (;;) {
        if (!f->in_tag) {
            const char *open = f->pos < n ? memchr(p + f->pos, '<', n - f->pos) : NULL;
            f->pos = open ? (size_t)(open - p) : n;
            if (f->pos + 2 > n)
                return 0;
            f->closing = open[1] == '/';
            f->in_tag = true;
            f->pos++;
        }
        if (!pass_tag(f, p, n))
            return 0;
        f->in_tag = false;
        if (f->closing)
            f->depth--;
        else if (p[f->pos - 2] != '/')
            f->depth++;
        if (f->depth <= 0)
            break;
    }
    *out = (struct slice){p, f->pos};
    int found = f->depth < 0 ? -1 : 1;
    *f = (struct framer){0};
    return found;
}

bool xmpp_attr(struct slice stanza, const char *name, struct slice *value)
{
    const char *p = stanza.p + 1, *end = stanza.p + stanza.n;
    size_t len = strlen(name);
    while (p < end && *p != '>' && *p != '/' && !is_space(*p))
        p++;
    for (;;) {
        while (p < end && is_space(*p))
            p++;
        const char *at = p;
        while (p < end && *p != '=' && *p != '>' && *p != '/')
            p++;
        if (p + 1 >= end || *p != '=')
            return false;
        const char *text = p + 2, *close = memchr(text, p[1], (size_t)(end - text));
        if (!close)
            return false;
        if ((size_t)(p - at) == len && memcmp(at, name, len) == 0) {
            *value = (struct slice){text, (size_t)(close - text)};
            return true;
        }
        p = close + 1;
    }
}

struct slice xmpp_rest(struct slice stanza)
{
    struct framer tag = {.pos = 1};
    pass_tag(&tag, stanza.p, stanza.n);
    return (struct slice){stanza.p + tag.pos, stanza.n - tag.pos};
}

bool xmpp_is(struct slice stanza, const char *element)
{
    size_t n = strlen(element);
    return stanza.n > n + 1 && memcmp(stanza.p + 1, element, n) == 0 && !(stanza.p[n + 1] >= 'a' && stanza.p[n + 1] <= 'z');
}

/* Blocking: the stream header of the other side, past an XML declaration. */
static struct slice read_header(struct link *l)
{
    for (;;) {
        struct slice all = {buf_at(&l->in), buf_len(&l->in)};
        const char *open = all.n ? memchr(all.p, '<', all.n) : NULL;
        size_t left = open ? (size_t)(all.p + all.n - open) : 0;
        const char *close = open ? memchr(open, '>', left) : NULL;
        if (close && open[1] != '?')
            return (struct slice){open, (size_t)(close + 1 - open)};
        if (close)
            buf_drop(&l->in, (size_t)(close + 1 - all.p));
        else if (buf_read(&l->in, l->fd) <= 0)
            die("the stream ended before its header");
    }
}

/* Blocking: the next element, left in the buffer. */
static struct slice read_element(struct link *l)
{
    struct slice element;
    int found;
    while ((found = xmpp_next(&l->framer, &l->in, &element)) == 0)
        if (buf_read(&l->in, l->fd) <= 0)
            die("the stream ended during the handshake");
    return element;
}

void link_dial(struct link *l, const char *address, const char *domain, const char *secret)
{
    char hex[41];
    struct slice id;
    struct buf digest = {0};
    *l = (struct link){.fd = tcp_connect(address)};
    buf_printf(&l->out,
               "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", domain);
    buf_write_all(&l->out, l->fd);
    struct slice header = read_header(l);
    if (!xmpp_attr(header, "id", &id))
        die("the server's stream header has no id: %.*s", (int)header.n, header.p);
    buf_slice(&digest, id);
    buf_puts(&digest, secret);
    sha1_hex(buf_at(&digest), buf_len(&digest), hex);
    buf_free(&digest);
    buf_drop(&l->in, (size_t)(header.p + header.n - buf_at(&l->in)));
    buf_printf(&l->out, "<handshake>%s</handshake>", hex);
    buf_write_all(&l->out, l->fd);
    struct slice answer = read_element(l);
    if (!xmpp_is(answer, "handshake"))
        die("%s was not let in: %.*s", domain, (int)answer.n, answer.p);
    buf_drop(&l->in, answer.n);
    set_nonblocking(l->fd);
}

void link_accept(struct link *l, int listener, char *domain, size_t size)
{
    struct slice to = {"", 0};
    *l = (struct link){.fd = accept(listener, NULL, NULL)};
    if (l->fd < 0)
        die("no component came");
    struct slice header = read_header(l);
    xmpp_attr(header, "to", &to);
    snprintf(domain, size, "%.*s", (int)to.n, to.p);
    buf_drop(&l->in, (size_t)(header.p + header.n - buf_at(&l->in)));
    buf_printf(&l->out,
               "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
               "xmlns:stream='http://etherx.jabber.org/streams' id='bench' from='%s'>", domain);
    buf_write_all(&l->out, l->fd);
    struct slice handshake = read_element(l);
    if (!xmpp_is(handshake, "handshake"))
        die("a handshake was expected, not %.*s", (int)handshake.n, handshake.p);
    buf_drop(&l->in, handshake.n);
    buf_puts(&l->out, "<handshake/>");
    buf_write_all(&l->out, l->fd);
    set_nonblocking(l->fd);
}
