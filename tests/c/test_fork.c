/* fork(): the child's handles refuse to work, it holds no socket and no pipe of the parent's, and it can open its own. */
#include "live.h"

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct open {
    int sockets, pipes;
};

static struct open descriptors(void)
{
    struct open count = {0, 0};
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    CHECK(folder != NULL);
    while ((entry = readdir(folder))) {
        int type, fd = atoi(entry->d_name);
        socklen_t size = sizeof type;
        struct stat status;
        if (*entry->d_name == '.')
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM)
            count.sockets++;
        count.pipes += fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
    }
    closedir(folder);
    return count;
}

static void hear(void *userdata, int32_t level, const char *target, const char *text, size_t len)
{
    (void)userdata, (void)level, (void)target, (void)text, (void)len;
}

static void child(appxmpp_connection *connection, appxmpp_event *taken, appxmpp_stanza *iq, struct open before)
{
    appxmpp_event *event = NULL;
    appxmpp_stanza *answer = NULL;
    appxmpp_presence presence;
    const char *to = "echo@peer";
    int32_t number = 9;
    /* Standard streams may be some too; the connection's are not among what is left. */
    struct open left = descriptors();
    CHECK(left.sockets < before.sockets && left.pipes == before.pipes);
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_wait_ready(connection, APPXMPP_FOREVER, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_next_event(connection, APPXMPP_FOREVER, &event, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_request(connection, iq, APPXMPP_FOREVER, &answer, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_send_stanza(connection, iq, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_fd(connection, &number, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_connection_close(connection, 60000, &error));
    FAILS(APPXMPP_CLOSED, "fork",
          appxmpp_send_message(connection, &to, NULL, 1, "x", 1, NULL, 0, NULL, 0, false, &number, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_get_presence(connection, to, APPXMPP_NUL, NULL, 0, &presence, &error));
    FAILS(APPXMPP_CLOSED, "fork", appxmpp_send_invite(connection, to, APPXMPP_NUL, NULL, 0, &number, &error));
    CHECK(number == 9 && !event && !answer);
    CHECK(!appxmpp_connection_is_ready(connection));
    CHECK_STR(appxmpp_connection_address(connection), "bot@bot.localhost/bot");
    appxmpp_connection_interrupt(connection);
    CHECK_STR(appxmpp_event_field(taken, "body", 4), "before the fork");
    handled(taken);
    appxmpp_connection_free(connection);
    appxmpp_stanza_free(iq);

    OK(appxmpp_log_set(APPXMPP_LOG_DEBUG, hear, NULL, NULL, &error));
    connection = live(NULL);
    message(connection, "echo@peer", "from the child");
    event = next(connection);
    CHECK_STR(appxmpp_event_field(event, "body", 4), "from the child");
    handled(event);
    appxmpp_connection_free(connection);
}

int main(void)
{
    appxmpp_stanza *iq = NULL;
    int32_t fd;
    OK(appxmpp_stanza_parse("<iq to='peer' type='get'><q xmlns='urn:q'/></iq>", APPXMPP_NUL, &iq, &error));
    for (int round = 0; round < 5; round++) {
        appxmpp_connection *connection = live(NULL);
        struct open before = descriptors();
        if (round % 2)
            OK(appxmpp_connection_fd(connection, &fd, &error));
        CHECK(descriptors().pipes == before.pipes + (round % 2 ? 2 : 0));
        message(connection, "echo@peer", "before the fork");
        appxmpp_event *taken = next(connection);
        int status = 0;
        CHECK(before.sockets > 0);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            child(connection, taken, iq, before);
            _exit(0);
        }
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        /* The parent has lost nothing. */
        handled(taken);
        OK(appxmpp_connection_wait_ready(connection, PATIENCE_MS, &error));
        appxmpp_connection_free(connection);
    }
    appxmpp_stanza_free(iq);
    puts("ok");
    return 0;
}
