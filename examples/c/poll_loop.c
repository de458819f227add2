/* The bot of echo.c in a loop of the program's own: epoll waits for chat and for lines on standard input at once.
 * A line "user@example.com hello" is sent to that user.
 *
 *   cc -o poll_loop poll_loop.c $(pkg-config --cflags --libs appxmpp)
 *   APPXMPP_BACKEND=component://bot.example.com:SECRET@localhost ./poll_loop
 *
 * The end of standard input (Ctrl-D) ends it.
 */
#include <appxmpp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static bool ok(appxmpp_result result, appxmpp_error **error)
{
    if (result != APPXMPP_OK)
        fprintf(stderr, "poll_loop: %s: %s\n", appxmpp_result_name(result), appxmpp_error_text(*error).data);
    appxmpp_error_free(*error);
    *error = NULL;
    return result == APPXMPP_OK;
}

static bool send(const appxmpp_connection *bot, appxmpp_str to, appxmpp_str body, appxmpp_str from)
{
    appxmpp_error *error = NULL;
    int32_t status = 0;
    if (!ok(appxmpp_send_message(bot, &to.data, &to.len, 1, body.data, body.len, from.data, from.len, NULL, 0, false,
                                 &status, &error), &error))
        return false;
    if (status != APPXMPP_STATUS_NO_ERROR)
        fprintf(stderr, "poll_loop: not sent to %s: status %d\n", to.data, (int)status);
    return status == APPXMPP_STATUS_NO_ERROR;
}

/* All events that are there. false: the connection is over. */
static bool chat(const appxmpp_connection *bot)
{
    for (;;) {
        appxmpp_event *event = NULL;
        appxmpp_error *error = NULL;
        bool done = true;
        appxmpp_result result = appxmpp_connection_next_event(bot, 0, &event, &error);
        if (result == APPXMPP_TIMEOUT) {
            appxmpp_error_free(error);
            return true;
        }
        if (!ok(result, &error))
            return false;
        if (strcmp(appxmpp_event_service(event).data, "xmpp_message") == 0)
            done = send(bot, appxmpp_event_field(event, "from", 4), appxmpp_event_field(event, "body", 4),
                        appxmpp_event_field(event, "to", 2));
        appxmpp_event_done(event, done, NULL);
        appxmpp_event_free(event);
    }
}

/* false: there will be no more lines. */
static bool command(const appxmpp_connection *bot)
{
    static char line[4096];
    static size_t used;
    const appxmpp_str nobody = {NULL, 0};
    ssize_t count = read(STDIN_FILENO, line + used, sizeof line - used - 1);
    if (count <= 0)
        return false;
    used += (size_t)count;
    line[used] = 0;
    for (char *end; (end = strchr(line, '\n')); memmove(line, end + 1, used + 1)) {
        char *space = memchr(line, ' ', (size_t)(end - line));
        *end = 0;
        used -= (size_t)(end + 1 - line);
        if (space) {
            appxmpp_str to = {line, (size_t)(space - line)}, body = {space + 1, strlen(space + 1)};
            *space = 0;
            send(bot, to, body, nobody);
        } else {
            fprintf(stderr, "poll_loop: write ADDRESS TEXT\n");
        }
    }
    if (used == sizeof line - 1)
        used = 0;
    return true;
}

int main(void)
{
    appxmpp_connection *bot = NULL;
    appxmpp_error *error = NULL;
    int32_t chat_fd = -1;
    bool going = true;
    int loop = epoll_create1(EPOLL_CLOEXEC);

    if (!ok(appxmpp_connection_open(NULL, 0, NULL, &bot, &error), &error)
        || !ok(appxmpp_connection_wait_ready(bot, 30000, &error), &error)
        || !ok(appxmpp_connection_fd(bot, &chat_fd, &error), &error))
        return 1;
    int descriptors[] = {chat_fd, STDIN_FILENO};
    for (int i = 0; i < 2; i++) {
        struct epoll_event interest = {.events = EPOLLIN, .data = {.fd = descriptors[i]}};
        if (epoll_ctl(loop, EPOLL_CTL_ADD, descriptors[i], &interest) != 0) {
            perror("poll_loop: epoll_ctl");
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    while (going) {
        struct epoll_event found;
        if (epoll_wait(loop, &found, 1, -1) == 1)
            going = found.data.fd == chat_fd ? chat(bot) : command(bot);
    }
    appxmpp_connection_close(bot, 3000, NULL);
    appxmpp_connection_free(bot);
    close(loop);
    return 0;
}
