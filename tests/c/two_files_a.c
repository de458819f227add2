/* The header in two files of one program. */
#include <appxmpp.h>
#include <appxmpp.h>

const char *version_in_another_file(void);

int main(void)
{
    return appxmpp_version() == version_in_another_file() ? 0 : 1;
}
