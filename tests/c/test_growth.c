/* Made and freed many times: nothing grows. argv[1] is what: jid, stanza, stream, options, error or connection; argv[2]
   how many times, 10 or more. */
#include "live.h"

#include <dirent.h>
#include <malloc.h>

static void jid(void)
{
    appxmpp_jid *made = NULL;
    OK(appxmpp_jid_parse("user@example.com/phone", APPXMPP_NUL, &made, &error));
    appxmpp_jid_free(made);
}

static void stanza(void)
{
    appxmpp_stanza *made = NULL;
    OK(appxmpp_stanza_new(APPXMPP_MESSAGE, &made, &error));
    OK(appxmpp_stanza_set_attribute(made, "to", 2, "a@b", 3, &error));
    OK(appxmpp_stanza_add_body(made, "hello", 5, &error));
    appxmpp_stanza_free(made);
}

static void stream(void)
{
    appxmpp_stream *made = NULL;
    const char *header = "<stream:stream xmlns='jabber:component:accept'"
                         " xmlns:stream='http://etherx.jabber.org/streams' from='b' id='1'><handshake/>";
    OK(appxmpp_stream_new("b", 1, "s", 1, "p", 1, 0, &made, &error));
    OK(appxmpp_stream_handle_input(made, 1, header, strlen(header), &error));
    CHECK(appxmpp_stream_poll_transmit(made).len > 0);
    appxmpp_stream_event *event = appxmpp_stream_poll_event(made);
    CHECK(event != NULL);
    appxmpp_stream_event_free(event);
    appxmpp_stream_free(made);
}

static void options(void)
{
    appxmpp_options *made = NULL;
    OK(appxmpp_options_new(&made, &error));
    OK(appxmpp_options_set_secret(made, "s3cret", 6, &error));
    appxmpp_options_free(made);
}

static void failure(void)
{
    appxmpp_jid *made = NULL;
    appxmpp_error *error = NULL;
    CHECK(appxmpp_jid_parse("@", 1, &made, &error) == APPXMPP_INVALID_JID);
    appxmpp_error_free(error);
}

static void connection(void)
{
    static int made_so_far;
    appxmpp_connection *made = NULL;
    int32_t fd;
    OK(appxmpp_connection_open(NULL, 0, NULL, &made, &error));
    if (made_so_far++ % 2)
        OK(appxmpp_connection_fd(made, &fd, &error));
    if (made_so_far % 4 == 0) {
        OK(appxmpp_connection_wait_ready(made, PATIENCE_MS, &error));
        message(made, "echo@peer", "x");
        handled(next(made));
    }
    OK(appxmpp_connection_close(made, PATIENCE_MS, &error));
    appxmpp_connection_free(made);
}

static int descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*cycle)(void);
    } all[] = {{"jid", jid},         {"stanza", stanza}, {"stream", stream},
               {"options", options}, {"error", failure}, {"connection", connection}};
    CHECK(argc == 3);
    int cycles = atoi(argv[2]);
    CHECK(cycles >= 10);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, argv[1]) != 0)
            continue;
        /* What is made once is made by then. */
        for (int n = 0; n < cycles / 10; n++)
            all[i].cycle();
        int open_before = descriptors();
        size_t used_before = mallinfo2().uordblks;
        for (int n = 0; n < cycles; n++)
            all[i].cycle();
        size_t used = mallinfo2().uordblks;
        /* Less than one small allocation for each cycle. */
        if (used > used_before + (size_t)cycles * 8) {
            fprintf(stderr, "%s: %zu bytes more after %d cycles\n", argv[1], used - used_before, cycles);
            return 1;
        }
        CHECK(descriptors() <= open_before);
        printf("ok: %s: %ld bytes more after %d cycles\n", argv[1], (long)used - (long)used_before, cycles);
        return 0;
    }
    return 2;
}
