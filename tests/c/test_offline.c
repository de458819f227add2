/* Every function that needs no connection, with what it must refuse: jid, stanza, stream, error, version, options. */
#include "check.h"

#define UNTOUCHED ((void *)&untouched)

static int untouched;

static const char BAD_UTF8[] = "a\xff" "b@example.com";

static void versions_and_results(void)
{
    CHECK(strcmp(appxmpp_version(), "0.1.0") == 0);
    CHECK(appxmpp_version_check(APPXMPP_VERSION_MAJOR, APPXMPP_VERSION_MINOR, APPXMPP_VERSION_PATCH));
    CHECK(!appxmpp_version_check(APPXMPP_VERSION_MAJOR, APPXMPP_VERSION_MINOR + 1, 0));
    CHECK(!appxmpp_version_check(APPXMPP_VERSION_MAJOR, APPXMPP_VERSION_MINOR, APPXMPP_VERSION_PATCH + 1));
    CHECK(!appxmpp_version_check(0, 0, -1));
    CHECK(strcmp(appxmpp_result_name(APPXMPP_TIMEOUT), "APPXMPP_TIMEOUT") == 0);
    CHECK(strcmp(appxmpp_result_name(-12345), "APPXMPP_UNKNOWN") == 0);
    CHECK(appxmpp_result_service_error(APPXMPP_NO_BODY) == APPXMPP_SERVICE_NO_BODY);
    CHECK(strcmp(appxmpp_show_name(APPXMPP_SHOW_XA), "xa") == 0);
    CHECK(strcmp(appxmpp_show_name(12345), "") == 0);
}

static void errors(void)
{
    appxmpp_jid *jid = UNTOUCHED;
    appxmpp_error *error = NULL;
    CHECK(appxmpp_jid_parse("", 0, &jid, &error) == APPXMPP_INVALID_JID);
    CHECK(jid == UNTOUCHED);
    CHECK(appxmpp_error_result(error) == APPXMPP_INVALID_JID);
    CHECK(appxmpp_error_text(error).len > 10);
    appxmpp_error_free(error);
    CHECK(appxmpp_jid_parse("", 0, &jid, NULL) == APPXMPP_INVALID_JID);
    CHECK(appxmpp_error_result(NULL) == APPXMPP_NULL_ARGUMENT);
    CHECK_STR(appxmpp_error_text(NULL), "");
    appxmpp_error_free(NULL);
}

static void jids(void)
{
    appxmpp_jid *a = NULL, *b = NULL, *refused = UNTOUCHED;
    OK(appxmpp_jid_parse("User@EXAMPLE.com/Phone", APPXMPP_NUL, &a, &error));
    CHECK_STR(appxmpp_jid_full(a), "user@example.com/Phone");
    CHECK_STR(appxmpp_jid_bare(a), "user@example.com");
    CHECK_STR(appxmpp_jid_localpart(a), "user");
    CHECK_STR(appxmpp_jid_domainpart(a), "example.com");
    CHECK_STR(appxmpp_jid_resourcepart(a), "Phone");
    OK(appxmpp_jid_format("user", APPXMPP_NUL, "example.com, not this", 11, "Phone", 5, &b, &error));
    CHECK(appxmpp_jid_compare(a, b) == 0);
    appxmpp_jid_free(b);
    OK(appxmpp_jid_format(NULL, 0, "example.com", APPXMPP_NUL, NULL, 0, &b, &error));
    CHECK_STR(appxmpp_jid_full(b), "example.com");
    CHECK_STR(appxmpp_jid_localpart(b), "");
    CHECK_STR(appxmpp_jid_resourcepart(b), "");
    CHECK(appxmpp_jid_compare(a, b) > 0 && appxmpp_jid_compare(b, a) < 0);
    CHECK(appxmpp_jid_compare(NULL, a) < 0 && appxmpp_jid_compare(NULL, NULL) == 0);
    appxmpp_jid_free(a);
    appxmpp_jid_free(b);
    appxmpp_jid_free(NULL);

    FAILS(APPXMPP_NOT_UTF8, "byte 1", appxmpp_jid_parse(BAD_UTF8, APPXMPP_NUL, &refused, &error));
    FAILS(APPXMPP_INVALID_JID, "", appxmpp_jid_parse("@example.com", APPXMPP_NUL, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "text", appxmpp_jid_parse(NULL, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_jid_parse("a@b", 3, NULL, &error));
    FAILS(APPXMPP_INVALID_ARGUMENT, "memory", appxmpp_jid_parse("a@b", SIZE_MAX - 1, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "domainpart", appxmpp_jid_format("a", 1, NULL, 0, NULL, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_jid_format("a", 1, "b", 1, NULL, 0, NULL, &error));
    FAILS(APPXMPP_INVALID_JID, "", appxmpp_jid_format("a b", 3, "b", 1, NULL, 0, &refused, &error));
    FAILS(APPXMPP_NOT_UTF8, "resourcepart", appxmpp_jid_format("a", 1, "b", 1, "\xc3", 1, &refused, &error));
    CHECK(refused == UNTOUCHED);
    CHECK_STR(appxmpp_jid_full(NULL), "");
    CHECK_STR(appxmpp_jid_bare(NULL), "");
    CHECK_STR(appxmpp_jid_localpart(NULL), "");
    CHECK_STR(appxmpp_jid_domainpart(NULL), "");
    CHECK_STR(appxmpp_jid_resourcepart(NULL), "");
}

static void stanzas(void)
{
    appxmpp_stanza *stanza = NULL, *again = NULL, *refused = UNTOUCHED;
    OK(appxmpp_stanza_new(APPXMPP_MESSAGE, &stanza, &error));
    CHECK(appxmpp_stanza_kind(stanza) == APPXMPP_MESSAGE);
    OK(appxmpp_stanza_set_attribute(stanza, "to", APPXMPP_NUL, "a@b/\"<&'>", APPXMPP_NUL, &error));
    OK(appxmpp_stanza_set_attribute(stanza, "xml:lang", APPXMPP_NUL, "en", APPXMPP_NUL, &error));
    OK(appxmpp_stanza_set_attribute(stanza, "id", 2, "1", 1, &error));
    OK(appxmpp_stanza_set_attribute(stanza, "id", 2, NULL, 0, &error));
    OK(appxmpp_stanza_add_body(stanza, "1 < 2 & 3", APPXMPP_NUL, &error));
    OK(appxmpp_stanza_add_xml(stanza, "<x xmlns='urn:x'/>y", 18, &error));
    CHECK_STR(appxmpp_stanza_attribute(stanza, "to", 2), "a@b/\"<&'>");
    CHECK_STR(appxmpp_stanza_attribute(stanza, "xml:lang", APPXMPP_NUL), "en");
    CHECK_STR(appxmpp_stanza_attribute(stanza, "id", 2), "");
    CHECK_STR(appxmpp_stanza_body(stanza), "1 < 2 & 3");
    CHECK_STR(appxmpp_stanza_children_xml(stanza), "<body>1 &lt; 2 &amp; 3</body><x xmlns=\"urn:x\"/>");
    OK(appxmpp_stanza_parse(appxmpp_stanza_xml(stanza).data, appxmpp_stanza_xml(stanza).len, &again, &error));
    CHECK(strcmp(appxmpp_stanza_xml(stanza).data, appxmpp_stanza_xml(again).data) == 0);
    appxmpp_stanza_free(again);

    FAILS(APPXMPP_INVALID_ARGUMENT, "99", appxmpp_stanza_new(99, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_stanza_new(APPXMPP_IQ, NULL, &error));
    FAILS(APPXMPP_INVALID_XML, "", appxmpp_stanza_parse("<message>", APPXMPP_NUL, &refused, &error));
    FAILS(APPXMPP_INVALID_XML, "foo", appxmpp_stanza_parse("<foo/>", APPXMPP_NUL, &refused, &error));
    FAILS(APPXMPP_NOT_UTF8, "xml", appxmpp_stanza_parse(BAD_UTF8, APPXMPP_NUL, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "xml", appxmpp_stanza_parse(NULL, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_stanza_parse("<iq/>", APPXMPP_NUL, NULL, &error));
    CHECK(refused == UNTOUCHED);
    FAILS(APPXMPP_INVALID_XML, "xmlns", appxmpp_stanza_set_attribute(stanza, "xmlns", 5, "x", 1, &error));
    FAILS(APPXMPP_INVALID_XML, "id", appxmpp_stanza_set_attribute(stanza, "id", 2, "\x01", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "name", appxmpp_stanza_set_attribute(stanza, NULL, 0, "x", 1, &error));
    FAILS(APPXMPP_NOT_UTF8, "value", appxmpp_stanza_set_attribute(stanza, "id", 2, "\xff", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stanza", appxmpp_stanza_set_attribute(NULL, "id", 2, "x", 1, &error));
    FAILS(APPXMPP_INVALID_XML, "", appxmpp_stanza_add_body(stanza, "\x02", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "text", appxmpp_stanza_add_body(stanza, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stanza", appxmpp_stanza_add_body(NULL, "x", 1, &error));
    FAILS(APPXMPP_INVALID_XML, "", appxmpp_stanza_add_xml(stanza, "</message><message>", APPXMPP_NUL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "xml", appxmpp_stanza_add_xml(stanza, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stanza", appxmpp_stanza_add_xml(NULL, "<x/>", 4, &error));
    CHECK_STR(appxmpp_stanza_body(stanza), "1 < 2 & 3");
    CHECK(appxmpp_stanza_kind(NULL) == 0);
    CHECK_STR(appxmpp_stanza_attribute(NULL, "to", 2), "");
    CHECK_STR(appxmpp_stanza_attribute(stanza, NULL, 0), "");
    CHECK_STR(appxmpp_stanza_attribute(stanza, "\xff", 1), "");
    CHECK_STR(appxmpp_stanza_body(NULL), "");
    CHECK_STR(appxmpp_stanza_children_xml(NULL), "");
    CHECK_STR(appxmpp_stanza_xml(NULL), "");
    appxmpp_stanza_free(stanza);
    appxmpp_stanza_free(NULL);
}

static void stanza_that_is_too_large(void)
{
    size_t len = 600 * 1024;
    char *text = malloc(len);
    CHECK(text != NULL);
    memset(text, 'x', len);
    appxmpp_stanza *stanza = NULL;
    OK(appxmpp_stanza_new(APPXMPP_MESSAGE, &stanza, &error));
    FAILS(APPXMPP_TOO_LARGE, "", appxmpp_stanza_add_body(stanza, text, len, &error));
    CHECK_STR(appxmpp_stanza_body(stanza), "");
    appxmpp_stanza_free(stanza);
    free(text);
}

static appxmpp_stream *stream_new(void)
{
    appxmpp_stream *stream = NULL;
    OK(appxmpp_stream_new("bot.example", APPXMPP_NUL, "s3cret", APPXMPP_NUL, "q7", 2, 1000, &stream, &error));
    return stream;
}

static void feed(appxmpp_stream *stream, const char *text)
{
    OK(appxmpp_stream_handle_input(stream, 1001, text, strlen(text), &error));
}

static void streams(void)
{
    appxmpp_stream *stream = stream_new(), *refused = UNTOUCHED;
    CHECK(strstr(appxmpp_stream_poll_transmit(stream).data, "bot.example") != NULL);
    CHECK(appxmpp_stream_poll_event(stream) == NULL);
    CHECK(appxmpp_stream_poll_timeout(stream) > 1000 && appxmpp_stream_poll_timeout(stream) != UINT64_MAX);
    feed(stream, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'"
                 " from='bot.example' id='3BF96D32'>");
    CHECK(appxmpp_stream_poll_event(stream) == NULL);
    CHECK(strstr(appxmpp_stream_poll_transmit(stream).data, "<handshake>") != NULL);
    CHECK_STR(appxmpp_stream_poll_transmit(stream), "");

    appxmpp_stanza *stanza = NULL;
    OK(appxmpp_stanza_parse("<message to='a@b' from='x@bot.example'><body>hi</body></message>", APPXMPP_NUL, &stanza,
                            &error));
    FAILS(APPXMPP_NOT_CONNECTED, "", appxmpp_stream_send(stream, 1002, stanza, &error));
    feed(stream, "<handshake/><message from='a@b/c' to='x@bot.example'><body>one</body></message>"
                 "<message from='a@b/c' to='x@bot.example'><p:unbound/></message>");
    appxmpp_stream_event *event = appxmpp_stream_poll_event(stream);
    CHECK(appxmpp_stream_event_kind(event) == APPXMPP_STREAM_READY);
    CHECK(appxmpp_stream_event_stanza(event) == NULL);
    appxmpp_stream_event_free(event);
    event = appxmpp_stream_poll_event(stream);
    CHECK(appxmpp_stream_event_kind(event) == APPXMPP_STREAM_STANZA);
    CHECK_STR(appxmpp_stanza_body(appxmpp_stream_event_stanza(event)), "one");
    CHECK_STR(appxmpp_stream_event_text(event), "");
    appxmpp_stream_event_free(event);
    event = appxmpp_stream_poll_event(stream);
    CHECK(appxmpp_stream_event_kind(event) == APPXMPP_STREAM_SKIPPED);
    CHECK(appxmpp_stream_event_text(event).len > 0);
    appxmpp_stream_event_free(event);

    OK(appxmpp_stream_send(stream, 1003, stanza, &error));
    CHECK_STR(appxmpp_stream_poll_transmit(stream),
              "<message to=\"a@b\" from=\"x@bot.example\"><body>hi</body></message>");
    OK(appxmpp_stanza_set_attribute(stanza, "from", 4, "x@other.example", APPXMPP_NUL, &error));
    FAILS(APPXMPP_INVALID_SENDER, "other.example", appxmpp_stream_send(stream, 1004, stanza, &error));
    OK(appxmpp_stream_handle_timeout(stream, 1005, &error));
    OK(appxmpp_stream_close(stream, 1006, 2000, &error));
    CHECK_STR(appxmpp_stream_poll_transmit(stream), "</stream:stream>");
    OK(appxmpp_stream_handle_input(stream, 1007, NULL, 0, &error));
    event = appxmpp_stream_poll_event(stream);
    CHECK(appxmpp_stream_event_kind(event) == APPXMPP_STREAM_CLOSED);
    CHECK(appxmpp_stream_event_text(event).len > 0);
    appxmpp_stream_event_free(event);
    appxmpp_stanza_free(stanza);
    appxmpp_stream_free(stream);

    FAILS(APPXMPP_INVALID_JID, "", appxmpp_stream_new("a b", 3, "s", 1, "p", 1, 0, &refused, &error));
    FAILS(APPXMPP_INVALID_ARGUMENT, "p q", appxmpp_stream_new("b", 1, "s", 1, "p q", 3, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "domain", appxmpp_stream_new(NULL, 0, "s", 1, "p", 1, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "secret", appxmpp_stream_new("b", 1, NULL, 0, "p", 1, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "id_prefix", appxmpp_stream_new("b", 1, "s", 1, NULL, 0, 0, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_stream_new("b", 1, "s", 1, "p", 1, 0, NULL, &error));
    CHECK(refused == UNTOUCHED);
    FAILS(APPXMPP_NULL_ARGUMENT, "stream", appxmpp_stream_handle_input(NULL, 0, "x", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stream", appxmpp_stream_handle_timeout(NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stream", appxmpp_stream_send(NULL, 0, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "stream", appxmpp_stream_close(NULL, 0, 0, &error));
    CHECK(appxmpp_stream_poll_timeout(NULL) == UINT64_MAX);
    CHECK_STR(appxmpp_stream_poll_transmit(NULL), "");
    CHECK(appxmpp_stream_poll_event(NULL) == NULL);
    CHECK(appxmpp_stream_event_kind(NULL) == 0);
    CHECK(appxmpp_stream_event_stanza(NULL) == NULL);
    CHECK_STR(appxmpp_stream_event_text(NULL), "");
    appxmpp_stream_event_free(NULL);
    appxmpp_stream_free(NULL);
}

static void options(void)
{
    appxmpp_options *options = NULL;
    const char *names[] = {"xmpp_message", "mail", NULL};
    const char *wrong[] = {"xmpp_nonsense"};
    const size_t lens[] = {12, 4};
    OK(appxmpp_options_new(&options, &error));
    OK(appxmpp_options_set_app_id(options, "shop", APPXMPP_NUL, &error));
    OK(appxmpp_options_set_secret(options, "s3cret", 6, &error));
    OK(appxmpp_options_set_state_file(options, "/nowhere/state", APPXMPP_NUL, &error));
    OK(appxmpp_options_set_bodiless_messages(options, true, &error));
    OK(appxmpp_options_set_send_timeout(options, 5, &error));
    OK(appxmpp_options_set_durable(options, true, &error));
    OK(appxmpp_options_set_quota(options, "invitations_sent", APPXMPP_NUL, 10, &error));
    OK(appxmpp_options_set_keepalive(options, 0, &error));
    OK(appxmpp_options_set_version(options, "beta", APPXMPP_NUL, &error));
    OK(appxmpp_options_set_addresses(options, "appengine", 9, &error));
    FAILS(APPXMPP_CONFIG, "\"gae\"", appxmpp_options_set_addresses(options, "gae", 3, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "form", appxmpp_options_set_addresses(options, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "version", appxmpp_options_set_version(options, NULL, 0, &error));
    FAILS(APPXMPP_CONFIG, "stanzas", appxmpp_options_set_quota(options, "stanzas", 7, 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "name", appxmpp_options_set_quota(options, NULL, 0, 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_quota(NULL, "api_calls", 9, 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_durable(NULL, true, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_keepalive(NULL, 1, &error));
    OK(appxmpp_options_set_inbound_services(options, names, lens, 2, &error));
    OK(appxmpp_options_set_inbound_services(options, names, NULL, 2, &error));
    OK(appxmpp_options_set_inbound_services(options, NULL, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "names[2]", appxmpp_options_set_inbound_services(options, names, NULL, 3, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "names", appxmpp_options_set_inbound_services(options, NULL, NULL, 1, &error));
    FAILS(APPXMPP_INVALID_ARGUMENT, "", appxmpp_options_set_inbound_services(options, names, NULL, SIZE_MAX, &error));
    FAILS(APPXMPP_CONFIG, "xmpp_nonsense", appxmpp_options_set_inbound_services(options, wrong, NULL, 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "app_id", appxmpp_options_set_app_id(options, NULL, 0, &error));
    FAILS(APPXMPP_NOT_UTF8, "secret", appxmpp_options_set_secret(options, "\xff", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "secret", appxmpp_options_set_secret(options, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "path", appxmpp_options_set_state_file(options, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_app_id(NULL, "x", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_secret(NULL, "x", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_state_file(NULL, "x", 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_bodiless_messages(NULL, true, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_send_timeout(NULL, 1, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "options", appxmpp_options_set_inbound_services(NULL, NULL, NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_options_new(NULL, &error));

    appxmpp_connection *refused = UNTOUCHED;
    FAILS(APPXMPP_STORE, "/nowhere/state",
          appxmpp_connection_open("component://beta.latest.bot.localhost@127.0.0.1", APPXMPP_NUL, options, &refused, &error));
    FAILS(APPXMPP_CONFIG, "must be called beta.latest.DOMAIN, not bot.localhost",
          appxmpp_connection_open("component://bot.localhost@127.0.0.1", APPXMPP_NUL, options, &refused, &error));
    CHECK(refused == UNTOUCHED);
    appxmpp_options_free(options);
    OK(appxmpp_options_new(&options, &error));
    OK(appxmpp_options_set_durable(options, true, &error));
    OK(appxmpp_options_set_secret(options, "s3cret", 6, &error));
    FAILS(APPXMPP_CONFIG, "appxmpp_options_set_state_file",
          appxmpp_connection_open("component://bot.localhost@127.0.0.1", APPXMPP_NUL, options, &refused, &error));
    CHECK(refused == UNTOUCHED);
    appxmpp_options_free(options);
    appxmpp_options_free(NULL);
}

static void connections_that_do_not_open(void)
{
    appxmpp_connection *refused = UNTOUCHED;
    FAILS(APPXMPP_CONFIG, "APPXMPP_BACKEND", appxmpp_connection_open(NULL, 0, NULL, &refused, &error));
    FAILS(APPXMPP_CONFIG, "xmpp", appxmpp_connection_open("xmpp://a:b@c", APPXMPP_NUL, NULL, &refused, &error));
    FAILS(APPXMPP_CONFIG, "gateway",
          appxmpp_connection_open("http://a:s3cret@127.0.0.1", APPXMPP_NUL, NULL, &refused, &error));
    FAILS(APPXMPP_CONFIG, "stub:", appxmpp_connection_open("stub:", APPXMPP_NUL, NULL, &refused, &error));
    FAILS(APPXMPP_CONFIG, "secret",
          appxmpp_connection_open("component://bot.localhost@h", APPXMPP_NUL, NULL, &refused, &error));
    FAILS(APPXMPP_NOT_UTF8, "backend", appxmpp_connection_open("\xff", 1, NULL, &refused, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_connection_open("stub:", APPXMPP_NUL, NULL, NULL, &error));
    CHECK(refused == UNTOUCHED);
}

static void no_connection(void)
{
    appxmpp_stanza *answer = UNTOUCHED;
    appxmpp_event *event = UNTOUCHED;
    int32_t number = 7;
    appxmpp_presence presence = {true, true, 7};
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_wait_ready(NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_send_stanza(NULL, NULL, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_request(NULL, NULL, 0, &answer, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_fd(NULL, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_close(NULL, 0, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_connection_next_event(NULL, 0, &event, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection",
          appxmpp_send_message(NULL, NULL, NULL, 0, "x", 1, NULL, 0, NULL, 0, false, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection",
          appxmpp_send_presence(NULL, "a@b", 3, NULL, 0, NULL, 0, NULL, 0, NULL, 0, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_send_invite(NULL, "a@b", 3, NULL, 0, &number, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection", appxmpp_get_presence(NULL, "a@b", 3, NULL, 0, &presence, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "connection",
          appxmpp_get_presence_list(NULL, NULL, NULL, 0, NULL, 0, &presence, &error));
    CHECK(number == 7 && answer == UNTOUCHED && event == UNTOUCHED && presence.show == 7);
    CHECK(!appxmpp_connection_is_ready(NULL));
    CHECK_STR(appxmpp_connection_address(NULL), "");
    appxmpp_connection_interrupt(NULL);
    appxmpp_connection_free(NULL);
    CHECK(appxmpp_event_id(NULL) == 0 && appxmpp_event_field_count(NULL) == 0);
    CHECK(appxmpp_event_stanza(NULL) == NULL);
    CHECK_STR(appxmpp_event_path(NULL), "");
    CHECK_STR(appxmpp_event_service(NULL), "");
    CHECK_STR(appxmpp_event_sender(NULL), "");
    CHECK_STR(appxmpp_event_field(NULL, "from", 4), "");
    CHECK_STR(appxmpp_event_field_name(NULL, 0), "");
    CHECK_STR(appxmpp_event_field_value(NULL, 0), "");
    FAILS(APPXMPP_NULL_ARGUMENT, "event", appxmpp_event_done(NULL, true, &error));
    appxmpp_event_free(NULL);
}

static int finalized;

static void hear(void *userdata, int32_t level, const char *target, const char *text, size_t len)
{
    (void)userdata, (void)level, (void)target, (void)text, (void)len;
}

static void finalize(void *userdata)
{
    finalized += *(int *)userdata;
}

static void logs(void)
{
    int one = 1, ten = 10;
    OK(appxmpp_log_set(APPXMPP_LOG_WARN, hear, &one, finalize, &error));
    CHECK(finalized == 0);
    OK(appxmpp_log_set(APPXMPP_LOG_WARN, hear, &ten, finalize, &error));
    CHECK(finalized == 1);
    FAILS(APPXMPP_INVALID_ARGUMENT, "17", appxmpp_log_set(17, hear, &one, finalize, &error));
    CHECK(finalized == 1);
    OK(appxmpp_log_set(APPXMPP_LOG_OFF, NULL, NULL, NULL, &error));
    CHECK(finalized == 11);
    OK(appxmpp_log_set(APPXMPP_LOG_OFF, hear, &one, finalize, &error));
    CHECK(finalized == 12);
}

static void subscriptions(void)
{
    appxmpp_transition next = {false, 9};
    OK(appxmpp_subscription_next(APPXMPP_SUBSCRIPTION_NONE, true, "subscribe", 9, &next, &error));
    CHECK(next.passes && next.state == APPXMPP_SUBSCRIPTION_NONE_IN);
    OK(appxmpp_subscription_next(next.state, false, "subscribed", APPXMPP_NUL, &next, &error));
    CHECK(next.passes && next.state == APPXMPP_SUBSCRIPTION_FROM);
    FAILS(APPXMPP_INVALID_ARGUMENT, "9", appxmpp_subscription_next(9, false, "subscribe", 9, &next, &error));
    FAILS(APPXMPP_INVALID_ARGUMENT, "-1", appxmpp_subscription_next(-1, false, "subscribe", 9, &next, &error));
    FAILS(APPXMPP_INVALID_TYPE, "probe", appxmpp_subscription_next(0, false, "probe", 5, &next, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "type", appxmpp_subscription_next(0, false, NULL, 0, &next, &error));
    FAILS(APPXMPP_NULL_ARGUMENT, "out", appxmpp_subscription_next(0, false, "subscribe", 9, NULL, &error));
    CHECK(next.state == APPXMPP_SUBSCRIPTION_FROM);
}

int main(void)
{
    versions_and_results();
    errors();
    jids();
    stanzas();
    stanza_that_is_too_large();
    streams();
    options();
    connections_that_do_not_open();
    no_connection();
    subscriptions();
    logs();
    puts("ok");
    return 0;
}
