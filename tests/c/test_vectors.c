/* The vectors of tests/vectors from C, as a table that tests/python/test_c_vectors.py makes. What is a matter of XML is
   printed, or sent to the peer after a mark, for the caller to compare. */
#include "live.h"

struct text {
    const char *data;
    size_t len;
};

struct jid {
    struct text jid;
    int valid;
    struct text localpart, domainpart, resourcepart;
};

struct xml {
    struct text xml;
    int accepted;
};

struct send {
    struct text call, jids[16];
    size_t count;
    struct text body, from, type, show, status;
    int raw_xml;
    appxmpp_result result;
    int32_t statuses[16];
    size_t status_count;
};

struct route {
    struct text stanza, path, fields[24];
    size_t field_parts;
    struct text stanza_field, inbound[4];
    size_t inbound_count;
    int inbound_given, bodiless;
};

struct ask {
    struct text jid, from;
    int available, show, valid;
};

struct presence {
    struct text steps[8];
    size_t step_count;
    struct ask asks[8];
    size_t ask_count;
};

struct roster {
    int32_t state;
    int inbound;
    struct text verb;
    int passes;
    int32_t becomes;
};

#include "vectors.inc"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const char *group;
static size_t number;

static void not_so(const char *what, const char *found)
{
    fprintf(stderr, "%s.json, case %lu: %s: found %s\n", group, (unsigned long)number, what, found);
    exit(1);
}

static void expect(const char *what, appxmpp_str found, struct text expected)
{
    if (found.len != expected.len || memcmp(found.data, expected.data ? expected.data : "", found.len) != 0)
        not_so(what, found.data);
}

static void jids(void)
{
    group = "jid";
    for (number = 0; number < COUNT(jid_cases); number++) {
        const struct jid *c = &jid_cases[number];
        appxmpp_jid *jid = NULL;
        appxmpp_result result = appxmpp_jid_parse(c->jid.data, c->jid.len, &jid, NULL);
        if (result != (c->valid ? APPXMPP_OK : APPXMPP_INVALID_JID))
            not_so("validity", appxmpp_result_name(result));
        if (!c->valid)
            continue;
        expect("localpart", appxmpp_jid_localpart(jid), c->localpart);
        expect("domainpart", appxmpp_jid_domainpart(jid), c->domainpart);
        expect("resourcepart", appxmpp_jid_resourcepart(jid), c->resourcepart);
        appxmpp_jid_free(jid);
    }
}

static void xmls(void)
{
    group = "xml";
    for (number = 0; number < COUNT(xml_cases); number++) {
        const struct xml *c = &xml_cases[number];
        char *whole = malloc(c->xml.len + 32);
        appxmpp_stanza *stanza = NULL;
        appxmpp_error *error = NULL;
        CHECK(whole != NULL);
        /* Where no namespace is declared around it. */
        size_t len = 12;
        memcpy(whole, "<w xmlns=''>", len);
        memcpy(whole + len, c->xml.data, c->xml.len);
        len += c->xml.len;
        memcpy(whole + len, "</w>", 4);
        len += 4;
        OK(appxmpp_stanza_new(APPXMPP_MESSAGE, &stanza, &error));
        appxmpp_result result = appxmpp_stanza_add_xml(stanza, whole, len, &error);
        if (c->accepted != (result == APPXMPP_OK))
            not_so("acceptance", error ? appxmpp_error_text(error).data : "accepted");
        if (result != APPXMPP_OK && result != APPXMPP_INVALID_XML && result != APPXMPP_NOT_UTF8)
            not_so("refusal", appxmpp_result_name(result));
        appxmpp_str children = appxmpp_stanza_children_xml(stanza);
        if (result == APPXMPP_OK) {
            printf("xml %lu ", (unsigned long)number);
            for (size_t i = 0; i < children.len; i++)
                printf("%02x", (unsigned char)children.data[i]);
            putchar('\n');
        }
        appxmpp_error_free(error);
        appxmpp_stanza_free(stanza);
        free(whole);
    }
}

static void mark(const appxmpp_connection *connection)
{
    char text[32];
    snprintf(text, sizeof text, "%s %lu", group, (unsigned long)number);
    message(connection, "mark@peer", text);
}

static appxmpp_connection *shop(const struct route *c)
{
    appxmpp_options *options = NULL;
    OK(appxmpp_options_new(&options, &error));
    OK(appxmpp_options_set_app_id(options, "shop", APPXMPP_NUL, &error));
    if (c && c->inbound_given) {
        const char *names[4];
        size_t lens[4];
        for (size_t i = 0; i < c->inbound_count; i++)
            names[i] = c->inbound[i].data, lens[i] = c->inbound[i].len;
        OK(appxmpp_options_set_inbound_services(options, names, lens, c->inbound_count, &error));
    }
    if (c && c->bodiless)
        OK(appxmpp_options_set_bodiless_messages(options, true, &error));
    appxmpp_connection *connection = live(options);
    appxmpp_options_free(options);
    return connection;
}

static appxmpp_result call(const appxmpp_connection *connection, const struct send *c, int32_t *statuses)
{
    const char *jids[16];
    size_t lens[16];
    for (size_t i = 0; i < c->count; i++)
        jids[i] = c->jids[i].data, lens[i] = c->jids[i].len;
    if (strcmp(c->call.data, "send_message") == 0)
        return appxmpp_send_message(connection, jids, lens, c->count, c->body.data, c->body.len, c->from.data,
                                    c->from.len, c->type.data, c->type.len, c->raw_xml, statuses, NULL);
    CHECK(c->count == 1);
    if (strcmp(c->call.data, "send_presence") == 0)
        return appxmpp_send_presence(connection, jids[0], lens[0], c->type.data, c->type.len, c->show.data, c->show.len,
                                     c->status.data, c->status.len, c->from.data, c->from.len, NULL, NULL);
    CHECK(strcmp(c->call.data, "send_invite") == 0);
    return appxmpp_send_invite(connection, jids[0], lens[0], c->from.data, c->from.len, NULL, NULL);
}

static void sends(void)
{
    group = "send";
    appxmpp_connection *connection = shop(NULL);
    for (number = 0; number < COUNT(send_cases); number++) {
        const struct send *c = &send_cases[number];
        int32_t statuses[16];
        mark(connection);
        appxmpp_result result = call(connection, c, statuses);
        if (result != c->result)
            not_so("result", appxmpp_result_name(result));
        for (size_t i = 0; result == APPXMPP_OK && i < c->status_count; i++)
            if (statuses[i] != c->statuses[i])
                not_so("status", "another");
    }
    OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
    appxmpp_connection_free(connection);
}

static void routes(void)
{
    group = "route";
    for (number = 0; number < COUNT(route_cases); number++) {
        const struct route *c = &route_cases[number];
        /* Each with contacts of its own. */
        appxmpp_connection *connection = shop(c);
        appxmpp_event *event = NULL;
        mark(connection);
        peer_sends(connection, c->stanza.data);
        /* Stanzas are read in order: when this is answered, the one before was dealt with. */
        appxmpp_stanza *iq = NULL, *answer = NULL;
        OK(appxmpp_stanza_parse("<iq to='peer' type='get'><q xmlns='urn:q'/></iq>", APPXMPP_NUL, &iq, &error));
        OK(appxmpp_connection_request(connection, iq, PATIENCE_MS, &answer, &error));
        appxmpp_stanza_free(iq);
        appxmpp_stanza_free(answer);
        appxmpp_result result =
            appxmpp_connection_next_event(connection, c->path.data ? PATIENCE_MS : 20, &event, NULL);
        if (result != (c->path.data ? APPXMPP_OK : APPXMPP_TIMEOUT))
            not_so("an event", event ? appxmpp_event_path(event).data : appxmpp_result_name(result));
        if (event) {
            size_t count = c->field_parts / 2;
            expect("path", appxmpp_event_path(event), c->path);
            if (appxmpp_event_field_count(event) != count + 1)
                not_so("the number of fields", "another");
            for (size_t i = 0; i < count; i++) {
                expect("a field's name", appxmpp_event_field_name(event, i), c->fields[2 * i]);
                expect("a field", appxmpp_event_field_value(event, i), c->fields[2 * i + 1]);
            }
            CHECK_STR(appxmpp_event_field_name(event, count), "stanza");
            if (c->stanza_field.data)
                expect("the stanza", appxmpp_event_field_value(event, count), c->stanza_field);
            handled(event);
        }
        OK(appxmpp_connection_close(connection, PATIENCE_MS, &error));
        appxmpp_connection_free(connection);
    }
}

static void presences(void)
{
    group = "presence";
    for (number = 0; number < COUNT(presence_cases); number++) {
        const struct presence *c = &presence_cases[number];
        appxmpp_connection *connection = shop(NULL);
        for (size_t i = 0; i < c->step_count; i++)
            peer_sends(connection, c->steps[i].data);
        peer_sends(connection, "<message from='last@example.net' to='shop@bot.example.com'><body>last</body></message>");
        for (bool last = false; !last;) {
            appxmpp_event *event = next(connection);
            last = strcmp(appxmpp_event_sender(event).data, "last@example.net") == 0;
            handled(event);
        }
        for (size_t i = 0; i < c->ask_count; i++) {
            const struct ask *ask = &c->asks[i];
            appxmpp_presence found;
            OK(appxmpp_get_presence_list(connection, &ask->jid.data, &ask->jid.len, 1, ask->from.data,
                                         ask->from.len, &found, &error));
            if (found.available != ask->available || found.valid != ask->valid || found.show != ask->show)
                not_so("presence", ask->jid.data);
            appxmpp_result result =
                appxmpp_get_presence(connection, ask->jid.data, ask->jid.len, ask->from.data, ask->from.len, &found, NULL);
            if (result != (ask->valid ? APPXMPP_OK : APPXMPP_INVALID_JID))
                not_so("one presence", appxmpp_result_name(result));
        }
        OK(appxmpp_connection_close(connection, 0, &error));
        appxmpp_connection_free(connection);
    }
}

static void rosters(void)
{
    group = "roster";
    for (number = 0; number < COUNT(roster_cases); number++) {
        const struct roster *c = &roster_cases[number];
        appxmpp_transition next;
        OK(appxmpp_subscription_next(c->state, c->inbound, c->verb.data, c->verb.len, &next, &error));
        if (next.passes != c->passes || next.state != c->becomes)
            not_so("the transition", next.passes ? "one that passes" : "one that does not pass");
    }
}

int main(void)
{
    static void (*const all[])(void) = {jids, xmls, sends, routes, presences, rosters};
    for (size_t i = 0; i < COUNT(all); i++) {
        all[i]();
        printf("vectors c %s %lu\n", group, (unsigned long)number);
    }
    return 0;
}
