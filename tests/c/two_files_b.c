#include <appxmpp.h>

const char *version_in_another_file(void);

const char *version_in_another_file(void)
{
    return appxmpp_version();
}
