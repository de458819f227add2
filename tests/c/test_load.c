/* dlopen and dlclose: loading is quick to do and starts no thread; the library stays, for its threads run in it.
   argv[1] is the library. Prints the milliseconds that loading took. */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <appxmpp.h>

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            const char *why_ = dlerror();                                           \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, why_ ? why_ : ""); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

static int threads(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    struct dirent *entry;
    CHECK(folder != NULL);
    while ((entry = readdir(folder)))
        count += *entry->d_name != '.';
    closedir(folder);
    return count;
}

static double milliseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* ISO C has no conversion from an object pointer to a function's; POSIX does. */
static void find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    CHECK(found != NULL);
    *(void **)function = found;
}

int main(int argc, char **argv)
{
    appxmpp_result (*open)(const char *, size_t, const appxmpp_options *, appxmpp_connection **, appxmpp_error **);
    appxmpp_result (*wait_ready)(const appxmpp_connection *, uint64_t, appxmpp_error **);
    appxmpp_result (*close)(const appxmpp_connection *, uint64_t, appxmpp_error **);
    appxmpp_result (*parse)(const char *, size_t, appxmpp_jid **, appxmpp_error **);
    void (*release)(appxmpp_connection *), (*release_jid)(appxmpp_jid *);
    CHECK(argc == 2);

    double started = milliseconds();
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    double took = milliseconds() - started;
    CHECK(library != NULL);
    find(library, "appxmpp_jid_parse", &parse);
    find(library, "appxmpp_jid_free", &release_jid);
    find(library, "appxmpp_connection_open", &open);
    find(library, "appxmpp_connection_wait_ready", &wait_ready);
    find(library, "appxmpp_connection_close", &close);
    find(library, "appxmpp_connection_free", &release);

    appxmpp_jid *jid = NULL;
    CHECK(parse("a@b", APPXMPP_NUL, &jid, NULL) == APPXMPP_OK);
    release_jid(jid);
    CHECK(threads() == 1);

    for (int round = 0; round < 3; round++) {
        appxmpp_connection *connection = NULL;
        CHECK(open(NULL, 0, NULL, &connection, NULL) == APPXMPP_OK);
        CHECK(wait_ready(connection, 20000, NULL) == APPXMPP_OK);
        if (round == 1)
            CHECK(close(connection, 20000, NULL) == APPXMPP_OK);
        release(connection);
        CHECK(dlclose(library) == 0);
        /* It is still there, with its thread at work in it. */
        library = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
        CHECK(library != NULL);
    }
    CHECK(threads() > 1);
    printf("ok: loaded in %.2f ms\n", took);
    return 0;
}
