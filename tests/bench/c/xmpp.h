/* XEP-0114 at byte level: as little as a program can do and still be right. */
#ifndef BENCH_XMPP_H
#define BENCH_XMPP_H

#include "common.h"

/* Finds the end of the next top-level element; each byte is looked at once. */
struct framer {
    size_t pos;
    int depth;
    char quote;
    bool in_tag, closing;
};

/* 1: *out is a whole stanza (drop out->n bytes when done); 0: more bytes are needed; -1: end of stream. */
int xmpp_next(struct framer *f, struct buf *in, struct slice *out);

/* Value of an attribute of the stanza's own start tag; false if there is none. */
bool xmpp_attr(struct slice stanza, const char *name, struct slice *value);
/* What follows the start tag, the end tag included. */
struct slice xmpp_rest(struct slice stanza);
bool xmpp_is(struct slice stanza, const char *element);

struct link {
    int fd;
    struct buf in, out;
    struct framer framer;
};

/* Connects as a component and logs in; the socket is non-blocking afterwards. */
void link_dial(struct link *l, const char *address, const char *domain, const char *secret);
/* Takes one component in, whatever its secret; its domain is copied to domain. */
void link_accept(struct link *l, int listener, char *domain, size_t size);

void sha1_hex(const void *data, size_t n, char hex[41]);

#endif
