/* Every function of a connection, its service and its events, beside a peer that does what it is told. */
#include "live.h"

#include <poll.h>
#include <pthread.h>

#define USER "user@example.com/phone"

static void addresses_and_readiness(void)
{
    appxmpp_connection *connection = live(NULL);
    CHECK(appxmpp_connection_is_ready(connection));
    CHECK_STR(appxmpp_connection_address(connection), "bot@bot.localhost/bot");
    message(connection, "a@example.com", "counted");
    uint64_t number = 9;
    size_t names = 0;
    OK(appxmpp_connection_stat(connection, "stanzas_out", APPXMPP_NUL, &number, &error));
    CHECK(number == 1);
    OK(appxmpp_connection_stat(connection, "ready, and no more", 5, &number, &error));
    CHECK(number == 1);
    while (appxmpp_stat_name(names).len) {
        appxmpp_str name = appxmpp_stat_name(names++);
        OK(appxmpp_connection_stat(connection, name.data, name.len, &number, &error));
    }
    CHECK(names == 45);
    CHECK_STR(appxmpp_stat_name(0), "ready");
    number = 9;
    FAILS(APPXMPP_INVALID_ARGUMENT, "nothing", appxmpp_connection_stat(connection, "nothing", 7, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "name", appxmpp_connection_stat(connection, NULL, 7, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_connection_stat(connection, "ready", 5, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_stat(NULL, "ready", 5, &number, &error));
    CHECK(number == 9);
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    CHECK(!appxmpp_connection_is_ready(connection));
    FAILS(APPXMPP_CLOSED, "", appxmpp_connection_wait_ready(connection, 0, &error));
    OK(appxmpp_connection_close(connection, 0, &error));
    appxmpp_connection_free(connection);
}

static void options_reach_the_connection(void)
{
    appxmpp_options *options = NULL;
    const char *services[] = {"xmpp_presence"};
    OK(appxmpp_options_new(&options, &error));
    OK(appxmpp_options_set_app_id(options, "shop", APPXMPP_NUL, &error));
    OK(appxmpp_options_set_inbound_services(options, services, NULL, 1, &error));
    appxmpp_connection *connection = live(options);
    appxmpp_options_free(options);
    CHECK_STR(appxmpp_connection_address(connection), "shop@bot.localhost/bot");
    peer_sends(connection, "<message from='" USER "' to='shop@bot.localhost'><body>unwanted</body></message>"
                           "<presence from='" USER "' to='shop@bot.localhost'><show>away</show></presence>");
    appxmpp_event *event = next(connection);
    CHECK_STR(appxmpp_event_service(event), "xmpp_presence");
    CHECK_STR(appxmpp_event_path(event), "/_ah/xmpp/presence/available/");
    handled(event);
    appxmpp_connection_free(connection);
}

static void an_event_is_what_a_handler_gets(void)
{
    appxmpp_connection *connection = live(NULL);
    peer_sends(connection, "<message from='" USER "' to='bot@bot.localhost' type='chat' id='7'>"
                           "<body>h\xc3\xa9llo &amp; you</body></message>");
    appxmpp_event *event = next(connection);
    CHECK_STR(appxmpp_event_path(event), "/_ah/xmpp/message/chat/");
    CHECK_STR(appxmpp_event_service(event), "xmpp_message");
    CHECK_STR(appxmpp_event_sender(event), "user@example.com");
    CHECK_STR(appxmpp_event_field(event, "from", APPXMPP_NUL), USER);
    CHECK_STR(appxmpp_event_field(event, "body, not all of this", 4), "h\xc3\xa9llo & you");
    CHECK_STR(appxmpp_event_field(event, "nothing", APPXMPP_NUL), "");
    CHECK_STR(appxmpp_event_field(event, NULL, 0), "");
    CHECK(appxmpp_event_field_count(event) == 4);
    const char *names[] = {"from", "to", "body", "stanza"};
    for (size_t i = 0; i < 4; i++) {
        CHECK_STR(appxmpp_event_field_name(event, i), names[i]);
        CHECK_STR(appxmpp_event_field_value(event, i), appxmpp_event_field(event, names[i], APPXMPP_NUL).data);
    }
    CHECK_STR(appxmpp_event_field_name(event, 4), "");
    CHECK_STR(appxmpp_event_field_value(event, SIZE_MAX), "");
    const appxmpp_stanza *stanza = appxmpp_event_stanza(event);
    CHECK(stanza == appxmpp_event_stanza(event));
    CHECK(appxmpp_stanza_kind(stanza) == APPXMPP_MESSAGE);
    CHECK_STR(appxmpp_stanza_attribute(stanza, "id", 2), "7");
    uint64_t id = appxmpp_event_id(event);
    OK(appxmpp_event_done(event, true, &error));
    OK(appxmpp_event_done(event, false, &error));
    appxmpp_event_free(event);

    peer_sends(connection, "<presence from='" USER "' to='bot@bot.localhost' type='subscribe'/>");
    event = next(connection);
    CHECK_STR(appxmpp_event_path(event), "/_ah/xmpp/subscription/subscribe/");
    CHECK(appxmpp_event_id(event) != id);
    /* It outlives its connection, and being done with it then does nothing. */
    appxmpp_connection_free(connection);
    CHECK_STR(appxmpp_event_sender(event), "user@example.com");
    handled(event);
}

static void one_sender_s_events_come_one_by_one(void)
{
    appxmpp_connection *connection = live(NULL);
    peer_sends(connection, "<message from='a@example.com' to='bot@bot.localhost'><body>1</body></message>"
                           "<message from='a@example.com' to='bot@bot.localhost'><body>2</body></message>"
                           "<message from='b@example.com' to='bot@bot.localhost'><body>3</body></message>");
    appxmpp_event *first = next(connection), *other = next(connection), *second = NULL;
    CHECK_STR(appxmpp_event_field(first, "body", 4), "1");
    CHECK_STR(appxmpp_event_field(other, "body", 4), "3");
    FAILS(APPXMPP_TIMEOUT, "0 ms", appxmpp_connection_next_event(connection, 0, &second, &error));
    CHECK(second == NULL);
    appxmpp_event_free(first); /* not done: it counts as failed */
    second = next(connection);
    CHECK_STR(appxmpp_event_field(second, "body", 4), "2");
    handled(second);
    handled(other);
    appxmpp_connection_free(connection);
}

static void messages_have_statuses(void)
{
    appxmpp_connection *connection = live(NULL);
    const char *jids[] = {"a@example.com", "not an address", "b@example.com/r, and no more"};
    const size_t lens[] = {13, 14, 15};
    int32_t statuses[] = {9, 9, 9};
    OK(appxmpp_send_message(connection, jids, lens, 3, "hi", 2, NULL, 0, NULL, 0, false, statuses, &error));
    CHECK(statuses[0] == 0 && statuses[1] == APPXMPP_STATUS_INVALID_JID && statuses[2] == 0);
    OK(appxmpp_send_message(connection, jids, lens, 1, "<body>hi</body>", APPXMPP_NUL, "x@bot.localhost", APPXMPP_NUL,
                            "headline", APPXMPP_NUL, true, statuses, &error));
    statuses[0] = 9;
    FAILS(APPXMPP_NO_BODY, "", appxmpp_send_message(connection, jids, lens, 1, "", 0, NULL, 0, NULL, 0, false, statuses, &error));
    FAILS(APPXMPP_INVALID_TYPE, "nonsense",
          appxmpp_send_message(connection, jids, lens, 1, "x", 1, NULL, 0, "nonsense", 8, false, statuses, &error));
    FAILS(APPXMPP_INVALID_SENDER, "a@foreign.example",
          appxmpp_send_message(connection, jids, lens, 1, "x", 1, "a@foreign.example", APPXMPP_NUL, NULL, 0, false,
                               statuses, &error));
    FAILS(APPXMPP_INVALID_XML, "",
          appxmpp_send_message(connection, jids, lens, 1, "</message>", 10, NULL, 0, NULL, 0, true, statuses, &error));
    FAILS(APPXMPP_INVALID_JID, "",
          appxmpp_send_message(connection, NULL, NULL, 0, "x", 1, NULL, 0, NULL, 0, false, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "statuses",
          appxmpp_send_message(connection, jids, lens, 1, "x", 1, NULL, 0, NULL, 0, false, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "body",
          appxmpp_send_message(connection, jids, lens, 1, NULL, 0, NULL, 0, NULL, 0, false, statuses, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "jids",
          appxmpp_send_message(connection, NULL, NULL, 1, "x", 1, NULL, 0, NULL, 0, false, statuses, &error));
    FAILS(APPXMPP_NOT_UTF8, "body",
          appxmpp_send_message(connection, jids, lens, 1, "\xff", 1, NULL, 0, NULL, 0, false, statuses, &error));
    CHECK(statuses[0] == 9);
    appxmpp_connection_free(connection);
}

static appxmpp_str text(const char *data)
{
    appxmpp_str text = {data, APPXMPP_NUL};
    return text;
}

static void several_events_and_messages(bool with_descriptor)
{
    appxmpp_connection *connection = live(NULL);
    appxmpp_event *events[4] = {NULL, NULL, NULL, NULL};
    size_t count = 9;
    int32_t fd;
    if (with_descriptor)
        OK(appxmpp_connection_fd(connection, &fd, &error));
    FAILS(APPXMPP_TIMEOUT, "0 ms", appxmpp_connection_next_events(connection, 0, 4, events, &count, &error));
    FAILS(APPXMPP_INVALID_ARGUMENT, "max", appxmpp_connection_next_events(connection, 0, 0, events, &count, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_connection_next_events(connection, 0, 4, NULL, &count, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "count", appxmpp_connection_next_events(connection, 0, 4, events, NULL, &error));
    CHECK(count == 9 && events[0] == NULL);

    appxmpp_message messages[8];
    memset(messages, 0, sizeof messages);
    for (size_t i = 0; i < 8; i++)
        messages[i].to = text("echo@peer"), messages[i].body = text("x"), messages[i].status = 9;
    messages[0].to = text("echo1@peer"), messages[0].body = text("<1>");
    messages[1].to = text("not an address");
    messages[2].body = text("");
    messages[3].from = text("a@foreign.example");
    messages[4].message_type = text("nonsense");
    messages[5].to.data = NULL;
    messages[6].body = text("\xff");
    messages[7].to = text("echo2@peer"), messages[7].body = text("<body>2</body>"), messages[7].raw_xml = true;
    messages[7].from = text("x@bot.localhost/y");
    OK(appxmpp_send_messages(connection, messages, 8, &error));
    static const appxmpp_result results[] = {APPXMPP_OK, APPXMPP_OK, APPXMPP_NO_BODY, APPXMPP_INVALID_SENDER,
                                             APPXMPP_INVALID_TYPE, APPXMPP_NULL_ARGUMENT, APPXMPP_NOT_UTF8, APPXMPP_OK};
    for (size_t i = 0; i < 8; i++) {
        CHECK(messages[i].result == results[i]);
        CHECK(messages[i].status == (i == 0 || i == 7 ? APPXMPP_STATUS_NO_ERROR
                                     : i == 1         ? APPXMPP_STATUS_INVALID_JID
                                                      : APPXMPP_STATUS_OTHER_ERROR));
    }
    for (size_t got = 0; got < 2;) {
        OK(appxmpp_connection_next_events(connection, PATIENCE_MS, 4, events, &count, &error));
        CHECK(count >= 1 && got + count <= 2);
        for (size_t i = 0; i < count; i++, got++) {
            CHECK_STR(appxmpp_event_field(events[i], "from", 4), got ? "echo2@peer" : "echo1@peer");
            CHECK_STR(appxmpp_event_field(events[i], "to", 2), got ? "x@bot.localhost/y" : "bot@bot.localhost/bot");
            CHECK_STR(appxmpp_event_field(events[i], "body", 4), got ? "2" : "<1>");
            handled(events[i]);
        }
    }
    OK(appxmpp_send_messages(connection, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "messages", appxmpp_send_messages(connection, NULL, 1, &error));
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    OK(appxmpp_send_messages(connection, messages, 1, &error));
    CHECK(messages[0].result == APPXMPP_OK && messages[0].status == APPXMPP_STATUS_OTHER_ERROR);
    appxmpp_connection_free(connection);
}

static bool three_times(void *userdata)
{
    return ++*(int *)userdata < 3;
}

static void a_send_is_given_up(void)
{
    static char body[64 * 1024];
    appxmpp_connection *connection = live(NULL);
    const char *to = "a@example.com";
    int32_t status = 9;
    int asked = 0;
    OK(appxmpp_send_message_checked(connection, &to, NULL, 1, "x", 1, NULL, 0, NULL, 0, false, three_times, &asked,
                                    &status, &error));
    OK(appxmpp_send_message_checked(connection, &to, NULL, 1, "x", 1, NULL, 0, NULL, 0, false, NULL, NULL, &status,
                                    &error));
    CHECK(asked == 0 && status == APPXMPP_STATUS_NO_ERROR);
    message(connection, "stall@peer", "read nothing more");
    memset(body, 'x', sizeof body);
    while (status == APPXMPP_STATUS_NO_ERROR)
        OK(appxmpp_send_message_checked(connection, &to, NULL, 1, body, sizeof body, NULL, 0, NULL, 0, false,
                                        three_times, &asked, &status, &error));
    CHECK(asked == 3 && status == APPXMPP_STATUS_OTHER_ERROR);
    appxmpp_connection_free(connection);
}

static void presence(void)
{
    appxmpp_connection *connection = live(NULL);
    appxmpp_presence found = {false, false, 9}, list[3];
    int32_t status = 9;
    OK(appxmpp_get_presence(connection, USER, APPXMPP_NUL, NULL, 0, &found, &error));
    CHECK(!found.available && found.valid && found.show == APPXMPP_SHOW_UNKNOWN);
    peer_sends(connection, "<presence from='" USER "' to='bot@bot.localhost'><show>dnd</show></presence>");
    handled(next(connection));
    OK(appxmpp_get_presence(connection, "user@example.com", APPXMPP_NUL, NULL, 0, &found, &error));
    CHECK(found.available && found.valid && found.show == APPXMPP_SHOW_DND);
    const char *jids[] = {"nobody@example.com", "not an address", "user@example.com"};
    OK(appxmpp_get_presence_list(connection, jids, NULL, 3, NULL, 0, list, &error));
    CHECK(!list[0].available && list[0].valid && !list[1].valid && list[2].available);
    FAILS(APPXMPP_INVALID_JID, "not an address",
          appxmpp_get_presence(connection, jids[1], APPXMPP_NUL, NULL, 0, &found, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_get_presence(connection, "a@b", 3, NULL, 0, NULL, &error));
    FAILS(APPXMPP_INVALID_JID, "", appxmpp_get_presence_list(connection, NULL, NULL, 0, NULL, 0, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_get_presence_list(connection, jids, NULL, 3, NULL, 0, NULL, &error));
    CHECK(found.show == APPXMPP_SHOW_DND);

    OK(appxmpp_send_presence(connection, USER, APPXMPP_NUL, NULL, 0, "away", 4, "gone", 4, NULL, 0, &status, &error));
    CHECK(status == APPXMPP_STATUS_NO_ERROR);
    OK(appxmpp_send_presence(connection, USER, APPXMPP_NUL, "probe", 5, NULL, 0, NULL, 0, NULL, 0, NULL, &error));
    FAILS(APPXMPP_INVALID_SHOW, "cheese",
          appxmpp_send_presence(connection, USER, APPXMPP_NUL, NULL, 0, "cheese", 6, NULL, 0, NULL, 0, &status, &error));
    FAILS(APPXMPP_INVALID_TYPE, "subscribe",
          appxmpp_send_presence(connection, USER, APPXMPP_NUL, "subscribe", 9, NULL, 0, NULL, 0, NULL, 0, &status, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "jid",
          appxmpp_send_presence(connection, NULL, 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0, &status, &error));
    status = 9;
    OK(appxmpp_send_invite(connection, USER, APPXMPP_NUL, NULL, 0, &status, &error));
    CHECK(status == APPXMPP_STATUS_NO_ERROR);
    OK(appxmpp_send_invite(connection, USER, APPXMPP_NUL, "bot@bot.localhost", APPXMPP_NUL, NULL, &error));
    FAILS(APPXMPP_INVALID_JID, "", appxmpp_send_invite(connection, "@", 1, NULL, 0, &status, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "jid", appxmpp_send_invite(connection, NULL, 0, NULL, 0, &status, &error));
    appxmpp_connection_free(connection);
}

static void stanzas_and_requests(void)
{
    appxmpp_connection *connection = live(NULL);
    appxmpp_stanza *stanza = NULL, *answer = NULL;
    OK(appxmpp_stanza_parse("<message to='echo@peer' type='chat'><body>there and back</body></message>", APPXMPP_NUL,
                            &stanza, &error));
    OK(appxmpp_connection_send_stanza(connection, stanza, &error));
    appxmpp_event *event = next(connection);
    CHECK_STR(appxmpp_event_field(event, "body", 4), "there and back");
    CHECK_STR(appxmpp_event_field(event, "to", 2), "bot@bot.localhost/bot");
    handled(event);
    OK(appxmpp_stanza_set_attribute(stanza, "from", 4, "a@foreign.example", APPXMPP_NUL, &error));
    FAILS(APPXMPP_INVALID_SENDER, "foreign.example", appxmpp_connection_send_stanza(connection, stanza, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stanza", appxmpp_connection_send_stanza(connection, NULL, &error));
    FAILS(APPXMPP_INVALID_XML, "request", appxmpp_connection_request(connection, stanza, 1, &answer, &error));
    appxmpp_stanza_free(stanza);

    OK(appxmpp_stanza_parse("<iq to='peer' type='get'><q xmlns='urn:q'/></iq>", APPXMPP_NUL, &stanza, &error));
    OK(appxmpp_connection_request(connection, stanza, PATIENCE_MS, &answer, &error));
    CHECK_STR(appxmpp_stanza_attribute(answer, "type", 4), "result");
    CHECK(strstr(appxmpp_stanza_children_xml(answer).data, "urn:q") != NULL);
    appxmpp_stanza_free(answer);
    OK(appxmpp_stanza_set_attribute(stanza, "to", 2, "error@peer", APPXMPP_NUL, &error));
    OK(appxmpp_connection_request(connection, stanza, APPXMPP_FOREVER, &answer, &error));
    CHECK_STR(appxmpp_stanza_attribute(answer, "type", 4), "error");
    appxmpp_stanza_free(answer);
    answer = NULL;
    OK(appxmpp_stanza_set_attribute(stanza, "to", 2, "silent@peer", APPXMPP_NUL, &error));
    FAILS(APPXMPP_TIMEOUT, "", appxmpp_connection_request(connection, stanza, 20, &answer, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "iq", appxmpp_connection_request(connection, NULL, 20, &answer, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_connection_request(connection, stanza, 20, NULL, &error));
    CHECK(answer == NULL);
    appxmpp_stanza_free(stanza);
    appxmpp_connection_free(connection);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd polled = {fd, POLLIN, 0};
    return poll(&polled, 1, timeout_ms) == 1 && (polled.revents & POLLIN);
}

static void the_descriptor_says_when_an_event_waits(void)
{
    appxmpp_connection *connection = live(NULL);
    appxmpp_event *event = NULL;
    int32_t fd = -1, again = -1;
    OK(appxmpp_connection_fd(connection, &fd, &error));
    OK(appxmpp_connection_fd(connection, &again, &error));
    CHECK(fd >= 0 && fd == again);
    CHECK(!readable(fd, 0));
    peer_sends(connection, "<message from='a@example.com' to='bot@bot.localhost'><body>1</body></message>"
                           "<message from='b@example.com' to='bot@bot.localhost'><body>2</body></message>");
    for (int i = 0; i < 2; i++) {
        CHECK(readable(fd, PATIENCE_MS));
        handled(next(connection));
    }
    FAILS(APPXMPP_TIMEOUT, "", appxmpp_connection_next_event(connection, 0, &event, &error));
    CHECK(!readable(fd, 0));
    appxmpp_connection_interrupt(connection);
    CHECK(readable(fd, 0));
    FAILS(APPXMPP_INTERRUPTED, "", appxmpp_connection_next_event(connection, 0, &event, &error));
    CHECK(!readable(fd, 0));
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    CHECK(readable(fd, PATIENCE_MS));
    FAILS(APPXMPP_CLOSED, "", appxmpp_connection_next_event(connection, APPXMPP_FOREVER, &event, &error));
    CHECK(readable(fd, 0) && event == NULL);
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_connection_fd(connection, NULL, &error));
    appxmpp_connection_free(connection);
}

static void *wait_for_event(void *connection)
{
    appxmpp_event *event = NULL;
    appxmpp_result result = appxmpp_connection_next_event(connection, APPXMPP_FOREVER, &event, NULL);
    CHECK(event == NULL);
    return (void *)(size_t)result;
}

/* With the descriptor in use or not, before the thread waits or while it does. */
static void an_interrupt_ends_a_wait(bool with_descriptor)
{
    appxmpp_connection *connection = live(NULL);
    int32_t fd;
    if (with_descriptor)
        OK(appxmpp_connection_fd(connection, &fd, &error));
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, wait_for_event, connection) == 0);
        appxmpp_connection_interrupt(connection);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK((size_t)result == APPXMPP_INTERRUPTED);
    }
    appxmpp_connection_interrupt(connection);
    FAILS(APPXMPP_INTERRUPTED, "", appxmpp_connection_wait_ready(connection, APPXMPP_FOREVER, &error));
    OK(appxmpp_connection_wait_ready(connection, 0, &error));
    /* Closing ends it too. */
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, wait_for_event, connection) == 0);
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    CHECK(pthread_join(thread, &result) == 0);
    CHECK((size_t)result == APPXMPP_CLOSED);
    appxmpp_connection_free(connection);
}

static void a_lost_connection_comes_back(void)
{
    appxmpp_connection *connection = live(NULL);
    const char *to = "a@example.com";
    int32_t status = 0;
    message(connection, "cut@peer", "now");
    while (status == 0)
        OK(appxmpp_send_message(connection, &to, NULL, 1, "x", 1, NULL, 0, NULL, 0, false, &status, &error));
    CHECK(status == APPXMPP_STATUS_OTHER_ERROR);
    /* Until the loss is noticed everywhere, it may still say that it is ready. */
    to = "echo@peer";
    while (status != 0) {
        OK(appxmpp_connection_wait_ready(connection, APPXMPP_FOREVER, &error));
        OK(appxmpp_send_message(connection, &to, NULL, 1, "again", 5, NULL, 0, NULL, 0, false, &status, &error));
    }
    handled(next(connection));
    appxmpp_connection_free(connection);
}

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t forgotten;
    int records, secrets, finalized;
};

static void hear(void *userdata, int32_t level, const char *target, const char *text, size_t len)
{
    struct heard *heard = userdata;
    CHECK(strlen(text) == len && *target && level >= APPXMPP_LOG_ERROR && level <= APPXMPP_LOG_DEBUG);
    pthread_mutex_lock(&heard->lock);
    heard->records++;
    heard->secrets += strstr(text, "s3cret") || strstr(text, "a private word");
    pthread_mutex_unlock(&heard->lock);
    /* What it causes to be said is not said to it. */
    appxmpp_jid_free(NULL);
}

static void forget(void *userdata)
{
    struct heard *heard = userdata;
    pthread_mutex_lock(&heard->lock);
    heard->finalized++;
    pthread_cond_signal(&heard->forgotten);
    pthread_mutex_unlock(&heard->lock);
}

static void the_log_is_heard_and_keeps_secrets(void)
{
    static struct heard heard = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0};
    OK(appxmpp_log_set(APPXMPP_LOG_DEBUG, hear, &heard, forget, &error));
    appxmpp_connection *connection = live(NULL);
    message(connection, "echo@peer", "a private word");
    handled(next(connection));
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    appxmpp_connection_free(connection);
    OK(appxmpp_log_set(APPXMPP_LOG_OFF, NULL, NULL, NULL, &error));
    pthread_mutex_lock(&heard.lock);
    CHECK(heard.records > 0 && heard.secrets == 0);
    /* Another thread may have been speaking just then, and does it soon after. */
    while (!heard.finalized)
        pthread_cond_wait(&heard.forgotten, &heard.lock);
    CHECK(heard.finalized == 1);
    pthread_mutex_unlock(&heard.lock);
}

int main(void)
{
    addresses_and_readiness();
    options_reach_the_connection();
    an_event_is_what_a_handler_gets();
    one_sender_s_events_come_one_by_one();
    messages_have_statuses();
    several_events_and_messages(false);
    several_events_and_messages(true);
    a_send_is_given_up();
    presence();
    stanzas_and_requests();
    the_descriptor_says_when_an_event_waits();
    an_interrupt_ends_a_wait(false);
    an_interrupt_ends_a_wait(true);
    a_lost_connection_comes_back();
    the_log_is_heard_and_keeps_secrets();
    puts("ok");
    return 0;
}
