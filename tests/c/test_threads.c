/* 16 threads with one handle: send, request, events, interrupts and, at some step of one of them, close, in an order
   that the seed in argv[1] decides. argv[2] is how many steps each thread takes. */
#include "live.h"

#include <pthread.h>

enum { THREADS = 16 };

static appxmpp_connection *connection;
static pthread_barrier_t everyone;
static int steps;

struct tally {
    pthread_t thread;
    unsigned random;
    int sent, refused, answered, events;
    int closes_at; /* the step, or negative for none */
    bool closed;
};

/* xorshift32: the same on every machine. */
static unsigned choose(struct tally *tally, unsigned below)
{
    unsigned x = tally->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return (tally->random = x) % below;
}

static void over_or(appxmpp_result found, appxmpp_result one, appxmpp_result other)
{
    if (found != APPXMPP_OK && found != APPXMPP_CLOSED && found != one && found != other) {
        fprintf(stderr, "a thread was given %s\n", appxmpp_result_name(found));
        exit(1);
    }
}

static void send(struct tally *tally)
{
    const char *to[] = {"echo@peer", "user@example.com"};
    int32_t statuses[2];
    OK(appxmpp_send_message(connection, to, NULL, 2, "from a thread", APPXMPP_NUL, NULL, 0, NULL, 0, false, statuses,
                            &error));
    tally->sent += statuses[0] == 0;
    tally->refused += statuses[0] != 0;
}

static void request(struct tally *tally)
{
    appxmpp_stanza *iq = NULL, *answer = NULL;
    appxmpp_error *error = NULL;
    OK(appxmpp_stanza_parse("<iq to='peer' type='get'><q xmlns='urn:q'/></iq>", APPXMPP_NUL, &iq, &error));
    appxmpp_result result = appxmpp_connection_request(connection, iq, PATIENCE_MS, &answer, &error);
    over_or(result, APPXMPP_NOT_CONNECTED, APPXMPP_OK);
    tally->answered += result == APPXMPP_OK;
    appxmpp_stanza_free(answer);
    appxmpp_stanza_free(iq);
    appxmpp_error_free(error);
}

static void take(struct tally *tally, uint64_t timeout_ms)
{
    appxmpp_event *event = NULL;
    appxmpp_result result = appxmpp_connection_next_event(connection, timeout_ms, &event, NULL);
    over_or(result, APPXMPP_TIMEOUT, APPXMPP_INTERRUPTED);
    if (event) {
        CHECK_STR(appxmpp_event_field(event, "body", 4), "from a thread");
        if (choose(tally, 8))
            OK(appxmpp_event_done(event, true, &error));
        appxmpp_event_free(event);
        tally->events++;
    }
}

static void *work(void *argument)
{
    struct tally *tally = argument;
    /* Everybody gets through once: as many events as messages, whoever takes which. */
    send(tally);
    request(tally);
    while (tally->events == 0)
        take(tally, PATIENCE_MS);
    pthread_barrier_wait(&everyone);
    for (int step = 0; step < steps; step++) {
        switch (choose(tally, 8)) {
        case 0:
        case 1:
        case 2:
            send(tally);
            break;
        case 3:
            request(tally);
            break;
        case 4:
            appxmpp_connection_interrupt(connection);
            break;
        case 5: {
            appxmpp_presence presence;
            OK(appxmpp_get_presence(connection, "user@example.com", APPXMPP_NUL, NULL, 0, &presence, &error));
            CHECK_STR(appxmpp_connection_address(connection), "bot@bot.localhost/bot");
            break;
        }
        default:
            take(tally, choose(tally, 4));
        }
        /* Somebody closes it while the others go on. */
        if (step == tally->closes_at) {
            OK(appxmpp_connection_close(connection, 50, &error));
            tally->closed = true;
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct tally tallies[THREADS];
    int sent = 0, refused = 0, answered = 0, events = 0, closed = 0;
    CHECK(argc == 3);
    unsigned seed = (unsigned)strtoul(argv[1], NULL, 10);
    steps = atoi(argv[2]);
    CHECK(pthread_barrier_init(&everyone, NULL, THREADS) == 0);
    connection = live(NULL);
    if (seed % 2) {
        int32_t fd;
        OK(appxmpp_connection_fd(connection, &fd, &error));
    }
    for (unsigned i = 0; i < THREADS; i++) {
        tallies[i].random = (seed + 1) * 2654435761u ^ (i + 1) * 40503u;
        tallies[i].closes_at = i == seed % THREADS ? (int)choose(&tallies[i], (unsigned)steps) : -1;
        CHECK(pthread_create(&tallies[i].thread, NULL, work, &tallies[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(tallies[i].thread, NULL) == 0);
        sent += tallies[i].sent, refused += tallies[i].refused;
        answered += tallies[i].answered, events += tallies[i].events;
        closed += tallies[i].closed;
    }
    CHECK(closed == 1 && !appxmpp_connection_is_ready(connection));
    OK(appxmpp_connection_close(connection, 0, &error));
    appxmpp_connection_free(connection);
    CHECK(sent >= THREADS && answered >= THREADS && events >= THREADS && events <= sent);
    printf("ok: seed %u: %d sent, %d refused, %d answered, %d events\n", seed, sent, refused, answered, events);
    return 0;
}
