/* HTTP/1.1 at byte level over one epoll loop: keep-alive, Content-Length bodies, nothing else. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include "common.h"

/* One connection of the loop. `ready` runs when bytes came in, and once more with `closed` set at the end. */
struct conn {
    int fd;
    struct buf in, out;
    bool closed, waits_for_room;
    void (*ready)(struct conn *c);
    /* What the owner remembers: whom an answer is for. */
    struct conn *peer;
    struct buf note;
    double since;
    struct conn *next;
};

struct conn *conn_new(int fd, void (*ready)(struct conn *c));
/* Writes what is in `out`; the rest follows when there is room. */
void conn_flush(struct conn *c);
/* Closes; memory is freed when the loop is done with this batch. */
void conn_close(struct conn *c);
/* Takes connections in on a listener, each with this `ready`. */
void loop_listen(int listener, void (*ready)(struct conn *c));
/* For ever; `after` (may be NULL) runs after each batch of events. */
void loop_run(void (*after)(void));
/* One batch. */
void loop_turn(void);

/* Idle keep-alive connections to one address, opened as they are needed. */
struct pool {
    const char *address;
    void (*ready)(struct conn *c);
    struct conn *idle;
};
struct conn *pool_take(struct pool *p);
void pool_give(struct pool *p, struct conn *c);
/* An idle one was closed by the other side. */
bool pool_forget(struct pool *p, struct conn *c);

struct http {
    struct slice start_line, headers, body;
    size_t size;        /* of the whole message: to be dropped when done */
    int status;         /* of a response, else 0 */
};
/* 1: a whole message is at the head of `in`; 0: more bytes are needed. Ends the program on what it does not speak. */
int http_next(struct buf *in, struct http *m);
bool http_header(const struct http *m, const char *lower_name, struct slice *value);
bool http_closes(const struct http *m);

#endif
