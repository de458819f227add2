/* A panic inside the library comes back as a result, is told to the log, and is not printed (the caller looks).
   Needs the library's feature test-panic. */
#include "check.h"

appxmpp_result appxmpp_test_panic(appxmpp_error **error);

static void hear(void *userdata, int32_t level, const char *target, const char *text, size_t len)
{
    (void)target, (void)len;
    CHECK(level == APPXMPP_LOG_ERROR && strstr(text, "a fault in the library") && strstr(text, "error.rs:"));
    CHECK(!strstr(text, "deliberate"));
    ++*(int *)userdata;
}

int main(void)
{
    int heard = 0;
    for (int round = 0; round < 3; round++)
        FAILS(APPXMPP_PANIC, "deliberate", appxmpp_test_panic(&error));
    OK(appxmpp_log_set(APPXMPP_LOG_ERROR, hear, &heard, NULL, &error));
    CHECK(appxmpp_test_panic(NULL) == APPXMPP_PANIC);
    CHECK(heard == 1);
    OK(appxmpp_log_set(APPXMPP_LOG_OFF, NULL, NULL, NULL, &error));
    appxmpp_jid *jid = NULL;
    OK(appxmpp_jid_parse("a@b", 3, &jid, &error));
    appxmpp_jid_free(jid);
    puts("ok");
    return 0;
}
