#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256 };

static int epoll = -1;
static struct conn *dead;

static void watch(struct conn *c, int how)
{
    struct epoll_event e = {.events = EPOLLIN | (c->waits_for_room ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll < 0)
        epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll, how, c->fd, &e) != 0)
        die("epoll: %s", strerror(errno));
}

struct conn *conn_new(int fd, void (*ready)(struct conn *c))
{
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        die("out of memory for a connection");
    c->fd = fd;
    c->ready = ready;
    set_nonblocking(fd);
    watch(c, EPOLL_CTL_ADD);
    return c;
}

void conn_close(struct conn *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    c->fd = -1;
    c->next = dead;
    dead = c;
}

void conn_flush(struct conn *c)
{
    if (c->fd < 0)
        return;
    if (!buf_write(&c->out, c->fd))
        c->out.start = c->out.end = 0; /* the reading side will tell the owner */
    bool waits = buf_len(&c->out) > 0;
    if (waits != c->waits_for_room) {
        c->waits_for_room = waits;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void accept_all(struct conn *listener)
{
    int fd;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        conn_new(fd, listener->peer->ready);
}

void loop_listen(int fd, void (*ready)(struct conn *c))
{
    struct conn *listener = conn_new(fd, accept_all);
    listener->peer = calloc(1, sizeof *listener->peer);
    listener->peer->ready = ready;
}

static void serve(struct conn *c, uint32_t events)
{
    if (c->fd < 0)
        return;
    if (events & EPOLLOUT)
        conn_flush(c);
    if (c->ready == accept_all)
        accept_all(c);
    else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        c->closed = buf_read(&c->in, c->fd) == 0;
        c->ready(c);
    }
}

void loop_turn(void)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(epoll, events, BATCH, -1);
    for (int i = 0; i < n; i++)
        serve(events[i].data.ptr, events[i].events);
    while (dead) {
        struct conn *c = dead;
        dead = c->next;
        buf_free(&c->in), buf_free(&c->out), buf_free(&c->note);
        free(c);
    }
}

void loop_run(void (*after)(void))
{
    for (;;) {
        loop_turn();
        if (after)
            after();
    }
}

struct conn *pool_take(struct pool *p)
{
    struct conn *c = p->idle;
    if (!c)
        return conn_new(tcp_connect(p->address), p->ready);
    p->idle = c->next;
    c->next = NULL;
    return c;
}

void pool_give(struct pool *p, struct conn *c)
{
    c->next = p->idle;
    p->idle = c;
}

bool pool_forget(struct pool *p, struct conn *c)
{
    for (struct conn **at = &p->idle; *at; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            return true;
        }
    }
    return false;
}

bool http_header(const struct http *m, const char *name, struct slice *value)
{
    size_t len = strlen(name);
    const char *line = m->headers.p, *end = line + m->headers.n;
    while (line < end) {
        const char *eol = memchr(line, '\r', (size_t)(end - line));
        if (!eol)
            eol = end;
        if ((size_t)(eol - line) > len && line[len] == ':' && strncasecmp(line, name, len) == 0) {
            const char *v = line + len + 1;
            while (v < eol && *v == ' ')
                v++;
            *value = (struct slice){v, (size_t)(eol - v)};
            return true;
        }
        line = eol + 2;
    }
    return false;
}

bool http_closes(const struct http *m)
{
    struct slice value;
    return http_header(m, "connection", &value) && value.n == 5 && strncasecmp(value.p, "close", 5) == 0;
}

int http_next(struct buf *in, struct http *m)
{
    struct slice all = {buf_at(in), buf_len(in)}, value;
    const char *blank = all.n ? slice_find(all, "\r\n\r\n") : NULL;
    if (!blank)
        return 0;
    const char *eol = memchr(all.p, '\r', all.n), *body = blank + 4;
    size_t length = 0;
    *m = (struct http){.start_line = {all.p, (size_t)(eol - all.p)}};
    if (eol < blank)
        m->headers = (struct slice){eol + 2, (size_t)(blank - eol - 2)};
    if (strncmp(all.p, "HTTP/1.", 7) == 0)
        m->status = atoi(all.p + 9);
    if (http_header(m, "content-length", &value))
        length = strtoul(value.p, NULL, 10);
    else if (http_header(m, "transfer-encoding", &value))
        die("a chunked HTTP body came: the benchmark speaks Content-Length alone");
    m->size = (size_t)(body - all.p) + length;
    if (m->size > all.n)
        return 0;
    m->body = (struct slice){body, length};
    return 1;
}
