#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_CHUNK = 64 * 1024 };

void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void buf_room(struct buf *b, size_t n)
{
    if (b->cap - b->end >= n)
        return;
    size_t len = buf_len(b);
    if (b->start > 0) {
        memmove(b->data, buf_at(b), len);
        b->start = 0;
        b->end = len;
    }
    if (b->cap - b->end >= n)
        return;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap - len < n)
        cap *= 2;
    b->data = realloc(b->data, cap);
    if (!b->data)
        die("out of memory for a buffer of %zu bytes", cap);
    b->cap = cap;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    buf_room(b, n);
    memcpy(b->data + b->end, p, n);
    b->end += n;
}

void buf_puts(struct buf *b, const char *s) { buf_put(b, s, strlen(s)); }

void buf_slice(struct buf *b, struct slice s) { buf_put(b, s.p, s.n); }

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    buf_room(b, (size_t)n + 1);
    va_start(args, format);
    vsnprintf(b->data + b->end, (size_t)n + 1, format, args);
    va_end(args);
    b->end += (size_t)n;
}

void buf_drop(struct buf *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

long buf_read(struct buf *b, int fd)
{
    buf_room(b, READ_CHUNK);
    for (;;) {
        ssize_t n = read(fd, b->data + b->end, b->cap - b->end);
        if (n >= 0) {
            b->end += (size_t)n;
            return n;
        }
        if (errno == EAGAIN)
            return -1;
        if (errno != EINTR)
            return 0;
    }
}

bool buf_write(struct buf *b, int fd)
{
    while (buf_len(b) > 0) {
        ssize_t n = write(fd, buf_at(b), buf_len(b));
        if (n >= 0)
            buf_drop(b, (size_t)n);
        else if (errno == EAGAIN)
            return true;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

void buf_write_all(struct buf *b, int fd)
{
    if (!buf_write(b, fd) || buf_len(b) > 0)
        die("the connection is gone: %s", strerror(errno));
}

bool slice_is(struct slice s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

const char *slice_find(struct slice s, const char *text)
{
    return memmem(s.p, s.n, text, strlen(text));
}

const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        die("%s is not set: start this through `make bench`", name);
    return value;
}

long setting_number(const char *name, long fallback)
{
    const char *value = getenv(name);
    if (!value)
        return fallback;
    char *end;
    long number = strtol(value, &end, 10);
    if (end == value || *end || number < 0)
        die("%s is %s: a whole number is needed", name, value);
    return number;
}

double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int tcp_connect(const char *address)
{
    const char *colon = strrchr(address, ':');
    char host[64];
    if (!colon || (size_t)(colon - address) >= sizeof host)
        die("%s is no HOST:PORT", address);
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        die("%s is no numeric IPv4 address", host);
    if ((ntohl(to.sin_addr.s_addr) >> 24) != 127)
        die("%s is not loopback: the benchmark loads nobody else", host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("no connection to %s: %s", address, strerror(errno));
    no_delay(fd);
    return fd;
}

int tcp_listen(int *port)
{
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    socklen_t len = sizeof at;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* Accepted sockets inherit this one. */
    no_delay(fd);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 4096) != 0)
        die("no listening on port %d: %s", *port, strerror(errno));
    getsockname(fd, (struct sockaddr *)&at, &len);
    *port = ntohs(at.sin_port);
    return fd;
}

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

bool wait_for_runner(void)
{
    int c;
    do
        c = getchar();
    while (c != EOF && c != '\n');
    return c == '\n';
}

void latencies_add(struct latencies *l, double seconds, size_t capacity)
{
    if (!l->seconds && !(l->seconds = malloc(capacity * sizeof *l->seconds)))
        die("out of memory for %zu latencies", capacity);
    if (l->count < capacity)
        l->seconds[l->count++] = (float)seconds;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double latencies_us(struct latencies *l, double quantile)
{
    if (l->count == 0)
        return 0;
    qsort(l->seconds, l->count, sizeof *l->seconds, by_value);
    return (double)l->seconds[(size_t)((double)(l->count - 1) * quantile)] * 1e6;
}

void program_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    /* Nobody is left to stop us when the runner is gone. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
}
