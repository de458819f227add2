/* What every benchmark program in C shares: buffers, loopback sockets, settings, reporting. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slice {
    const char *p;
    size_t n;
};

/* Bytes between start and end are waiting; room is made by moving or growing. */
struct buf {
    char *data;
    size_t start, end, cap;
};

static inline char *buf_at(const struct buf *b) { return b->data + b->start; }
static inline size_t buf_len(const struct buf *b) { return b->end - b->start; }

void buf_room(struct buf *b, size_t n);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_slice(struct buf *b, struct slice s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_drop(struct buf *b, size_t n);
void buf_free(struct buf *b);

/* Reads what is there: bytes read, 0 at the end of the connection (or a reset), -1 if nothing is waiting. */
long buf_read(struct buf *b, int fd);
/* Writes what the socket takes; false if the connection is gone. */
bool buf_write(struct buf *b, int fd);
/* Blocking: all of it, or the program ends. */
void buf_write_all(struct buf *b, int fd);

bool slice_is(struct slice s, const char *text);
/* First occurrence of text in s, or NULL. */
const char *slice_find(struct slice s, const char *text);

void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
const char *setting(const char *name);
long setting_number(const char *name, long fallback);
double now(void);

/* "HOST:PORT" with a numeric IPv4 host. tcp_listen takes port 0 and tells the one it got. */
int tcp_connect(const char *address);
int tcp_listen(int *port);
void set_nonblocking(int fd);

/* One line to the runner; wait for its next line (false: it closed our input). */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool wait_for_runner(void);

/* Latencies in seconds; prints "p50_us": …, "p99_us": … */
struct latencies {
    float *seconds;
    size_t count;
};
void latencies_add(struct latencies *l, double seconds, size_t capacity);
double latencies_us(struct latencies *l, double quantile);

void program_init(void);

#endif
