/* A panic inside the library comes back as a result. Needs the library's feature test-panic. */
#include "check.h"

appxmpp_result appxmpp_test_panic(appxmpp_error **error);

int main(void)
{
    for (int round = 0; round < 3; round++)
        FAILS(APPXMPP_PANIC, "deliberate", appxmpp_test_panic(&error));
    CHECK(appxmpp_test_panic(NULL) == APPXMPP_PANIC);
    appxmpp_jid *jid = NULL;
    OK(appxmpp_jid_parse("a@b", 3, &jid, &error));
    appxmpp_jid_free(jid);
    puts("ok");
    return 0;
}
