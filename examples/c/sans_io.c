/* The stream without the library's socket, clock and thread: this program has its own, and echoes messages.
 *
 *   cc -o sans_io sans_io.c $(pkg-config --cflags --libs appxmpp)
 *   ./sans_io HOST PORT DOMAIN < file-with-the-secret
 *
 * A message with the body "bye" ends it.
 */
#include <appxmpp.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void check(appxmpp_result result, appxmpp_error *const *error)
{
    if (result == APPXMPP_OK)
        return;
    fprintf(stderr, "sans_io: %s: %s\n", appxmpp_result_name(result), appxmpp_error_text(*error).data);
    exit(1);
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int fd = -1, failure = getaddrinfo(host, port, &hints, &found);
    if (failure) {
        fprintf(stderr, "sans_io: %s: %s\n", host, gai_strerror(failure));
        exit(1);
    }
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        perror("sans_io: connect");
        exit(1);
    }
    return fd;
}

/* The message turned round. */
static void answer(appxmpp_stream *stream, const appxmpp_stanza *message)
{
    appxmpp_stanza *reply = NULL;
    appxmpp_error *error = NULL;
    appxmpp_str from = appxmpp_stanza_attribute(message, "from", APPXMPP_NUL);
    appxmpp_str to = appxmpp_stanza_attribute(message, "to", APPXMPP_NUL);
    appxmpp_str body = appxmpp_stanza_body(message);
    check(appxmpp_stanza_new(APPXMPP_MESSAGE, &reply, &error), &error);
    check(appxmpp_stanza_set_attribute(reply, "to", APPXMPP_NUL, from.data, from.len, &error), &error);
    check(appxmpp_stanza_set_attribute(reply, "from", APPXMPP_NUL, to.data, to.len, &error), &error);
    check(appxmpp_stanza_set_attribute(reply, "type", APPXMPP_NUL, "chat", APPXMPP_NUL, &error), &error);
    check(appxmpp_stanza_add_body(reply, body.data, body.len, &error), &error);
    check(appxmpp_stream_send(stream, now_ms(), reply, &error), &error);
    appxmpp_stanza_free(reply);
}

/* Takes what happened; false after the last event. */
static bool handle(appxmpp_stream *stream)
{
    bool going = true;
    for (appxmpp_stream_event *event; (event = appxmpp_stream_poll_event(stream)); appxmpp_stream_event_free(event)) {
        const appxmpp_stanza *stanza = appxmpp_stream_event_stanza(event);
        int32_t kind = appxmpp_stream_event_kind(event);
        if (kind == APPXMPP_STREAM_READY) {
            puts("ready");
            fflush(stdout);
        } else if (kind == APPXMPP_STREAM_CLOSED) {
            printf("closed: %s\n", appxmpp_stream_event_text(event).data);
            going = false;
        } else if (appxmpp_stanza_kind(stanza) == APPXMPP_MESSAGE && appxmpp_stanza_body(stanza).len > 0
                   && strcmp(appxmpp_stanza_attribute(stanza, "type", APPXMPP_NUL).data, "error") != 0) {
            answer(stream, stanza);
            if (strcmp(appxmpp_stanza_body(stanza).data, "bye") == 0)
                appxmpp_stream_close(stream, now_ms(), now_ms() + 3000, NULL);
        }
    }
    return going;
}

static bool transmit(appxmpp_stream *stream, int fd)
{
    appxmpp_str out = appxmpp_stream_poll_transmit(stream);
    while (out.len > 0) {
        ssize_t written = send(fd, out.data, out.len, MSG_NOSIGNAL);
        if (written <= 0)
            return false;
        out.data += written;
        out.len -= (size_t)written;
    }
    return true;
}

int main(int argc, char **argv)
{
    appxmpp_stream *stream = NULL;
    appxmpp_error *error = NULL;
    char secret[256] = "", prefix[17], bytes[16384];
    unsigned char random[8];

    if (argc != 4 || !fgets(secret, sizeof secret, stdin) || getrandom(random, sizeof random, 0) != sizeof random) {
        fprintf(stderr, "usage: %s HOST PORT DOMAIN < file-with-the-secret\n", argv[0]);
        return 2;
    }
    secret[strcspn(secret, "\r\n")] = 0;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(prefix + 2 * i, 3, "%02x", random[i]);

    int fd = dial(argv[1], argv[2]);
    check(appxmpp_stream_new(argv[3], APPXMPP_NUL, secret, APPXMPP_NUL, prefix, APPXMPP_NUL, now_ms(), &stream, &error),
          &error);
    for (bool going = true; going;) {
        going = handle(stream);
        if (!transmit(stream, fd) || !going)
            break;
        uint64_t due = appxmpp_stream_poll_timeout(stream), now = now_ms();
        struct pollfd polled = {fd, POLLIN, 0};
        int found = poll(&polled, 1, due == UINT64_MAX ? -1 : due <= now ? 0 : (int)(due - now > 60000 ? 60000 : due - now));
        if (found > 0) {
            ssize_t count = recv(fd, bytes, sizeof bytes, 0);
            appxmpp_stream_handle_input(stream, now_ms(), bytes, count > 0 ? (size_t)count : 0, NULL);
        } else {
            appxmpp_stream_handle_timeout(stream, now_ms(), NULL);
        }
    }
    appxmpp_stream_free(stream);
    close(fd);
    return 0;
}
