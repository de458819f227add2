/* The DNS is asked for an account's server, whatever it says of a name that nobody has. Needs the library's feature srv. */
#include "check.h"

#include <semaphore.h>
#include <time.h>

static void hear(void *userdata, int32_t level, const char *target, const char *text, size_t len)
{
    (void)level, (void)target, (void)len;
    if (strstr(text, "the DNS") && strstr(text, "nobody.invalid"))
        sem_post(userdata);
}

int main(void)
{
    static sem_t asked;
    struct timespec until;
    appxmpp_connection *connection = NULL;
    CHECK(sem_init(&asked, 0, 0) == 0 && clock_gettime(CLOCK_REALTIME, &until) == 0);
    until.tv_sec += PATIENCE_MS / 1000;
    OK(appxmpp_log_set(APPXMPP_LOG_DEBUG, hear, &asked, NULL, &error));
    OK(appxmpp_connection_open("client://bot:password@nobody.invalid", APPXMPP_NUL, NULL, &connection, &error));
    CHECK(sem_timedwait(&asked, &until) == 0);
    appxmpp_connection_free(connection);
    OK(appxmpp_log_set(APPXMPP_LOG_OFF, NULL, NULL, NULL, &error));
    puts("ok");
    return 0;
}
