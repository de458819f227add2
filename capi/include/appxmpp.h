// libappxmpp: App Engine's chat service, on any XMPP server, from C.
//
// Conventions (all of them; no function departs from one without saying so)
//
// Names. Everything is appxmpp_<object>_<verb>; constants are APPXMPP_*. App Engine's own
// functions keep their names: appxmpp_send_message, appxmpp_send_presence,
// appxmpp_send_invite, appxmpp_get_presence.
//
// Handles are opaque. What _new, _open, _parse or _next gives is the caller's, and goes back
// through the _free of its type, exactly once. Every _free accepts NULL and does nothing then.
//
// Results. A function that can fail returns appxmpp_result; APPXMPP_OK is 0 and every other
// value has a name (appxmpp_result_name). Numbers are never changed and never used again. The last
// parameter, error, may be NULL; otherwise a failure stores a new appxmpp_error there whose text
// says what happened, to which value, and what to do next. Nothing is kept per thread.
//
// Out-parameters are written on success only. Their order is: the handle, inputs, outputs, error.
//
// Strings in are UTF-8, a pointer and a length in bytes; APPXMPP_NUL as the length means that the
// string ends with a NUL byte. Where NULL is allowed, the function says so. The library copies what
// it keeps.
//
// Strings out are appxmpp_str: UTF-8, always followed by a NUL byte that len does not count.
// They are borrowed from the handle they were asked of and live as long as it does.
//
// Threads. A function that takes a const handle may be called from any number of threads at once
// with the same handle. One that takes a non-const handle needs it alone. _free must be the last
// call with its handle. The library never calls into the program from a thread of its own, except
// for the log callback, which says so.
//
// Time is in milliseconds; APPXMPP_FOREVER never passes.
//
// Fork. Connections do not cross fork: in the child, calls with one that the parent opened give
// APPXMPP_CLOSED, and the child opens its own. The child of a process with several threads should
// not call the library before it has called exec, unless the threads that used the library rested
// when it was forked.
//
// Loading. The library starts no thread before the first connection is opened. Once loaded it stays
// until the process ends: dlclose does not unload it.
//
// Faults. A NULL that is not allowed gives APPXMPP_NULL_ARGUMENT. A fault inside the library ends
// in APPXMPP_PANIC, or where there is no result in what NULL gives, never in the caller's stack. Nothing
// is printed; the log says where it was.

#ifndef APPXMPP_H
#define APPXMPP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
// The length that means "up to the NUL byte".
#define APPXMPP_NUL SIZE_MAX

// The time that never passes.
#define APPXMPP_FOREVER UINT64_MAX



// Nothing is logged.
#define APPXMPP_LOG_OFF 0

// Something is lost or broken.
#define APPXMPP_LOG_ERROR 1

// Something needs a look.
#define APPXMPP_LOG_WARN 2

// What an operator wants to know: connected, lost, tried again.
#define APPXMPP_LOG_INFO 3

// What helps to find a fault.
#define APPXMPP_LOG_DEBUG 4

// The message is written to a live stream.
#define APPXMPP_STATUS_NO_ERROR 0

// The recipient is no address; nothing was sent to it.
#define APPXMPP_STATUS_INVALID_JID 1

// The server could not be reached; nothing is known to have been sent.
#define APPXMPP_STATUS_OTHER_ERROR 2

// Available and nothing more.
#define APPXMPP_SHOW_NORMAL 0

// Away.
#define APPXMPP_SHOW_AWAY 1

// Does not want to be disturbed.
#define APPXMPP_SHOW_DND 2

// Wants to chat.
#define APPXMPP_SHOW_CHAT 3

// Away for longer.
#define APPXMPP_SHOW_XA 4

// Nothing is known.
#define APPXMPP_SHOW_UNKNOWN -1

// App Engine's `UNSPECIFIED_ERROR`.
#define APPXMPP_SERVICE_UNSPECIFIED_ERROR 1

// App Engine's `INVALID_JID`.
#define APPXMPP_SERVICE_INVALID_JID 2

// App Engine's `NO_BODY`.
#define APPXMPP_SERVICE_NO_BODY 3

// App Engine's `INVALID_XML`.
#define APPXMPP_SERVICE_INVALID_XML 4

// App Engine's `INVALID_TYPE`.
#define APPXMPP_SERVICE_INVALID_TYPE 5

// App Engine's `INVALID_SHOW`.
#define APPXMPP_SERVICE_INVALID_SHOW 6

// App Engine's `EXCEEDED_MAX_SIZE`.
#define APPXMPP_SERVICE_EXCEEDED_MAX_SIZE 7

// App Engine's `APPID_ALIAS_REQUIRED`, which this library never gives.
#define APPXMPP_SERVICE_APPID_ALIAS_REQUIRED 8

// App Engine's `NONDEFAULT_MODULE`, which this library never gives.
#define APPXMPP_SERVICE_NONDEFAULT_MODULE 9

// A message (RFC 6121 §5).
#define APPXMPP_MESSAGE 1

// A presence stanza (RFC 6121 §4).
#define APPXMPP_PRESENCE 2

// An iq (RFC 6120 §8.2.3).
#define APPXMPP_IQ 3

// What `appxmpp_connection_stat` gives where there is no number.
#define APPXMPP_NO_NUMBER UINT64_MAX

// The server accepted the handshake: stanzas may be sent.
#define APPXMPP_STREAM_READY 1

// A stanza for the component.
#define APPXMPP_STREAM_STANZA 2

// A stanza was unacceptable and was left out; the stream goes on.
#define APPXMPP_STREAM_SKIPPED 3

// The stream has ended; it is the last event. What is left to transmit should be, then the
// connection can be dropped.
#define APPXMPP_STREAM_CLOSED 4

// Neither has a subscription to the other's presence, and nobody asked.
#define APPXMPP_SUBSCRIPTION_NONE 0

// Nobody has one; the app asked.
#define APPXMPP_SUBSCRIPTION_NONE_OUT 1

// Nobody has one; the contact asked.
#define APPXMPP_SUBSCRIPTION_NONE_IN 2

// Nobody has one; both asked.
#define APPXMPP_SUBSCRIPTION_NONE_OUT_IN 3

// The app sees the contact's presence.
#define APPXMPP_SUBSCRIPTION_TO 4

// The app sees the contact's presence; the contact asked.
#define APPXMPP_SUBSCRIPTION_TO_IN 5

// The contact sees the app's presence.
#define APPXMPP_SUBSCRIPTION_FROM 6

// The contact sees the app's presence; the app asked.
#define APPXMPP_SUBSCRIPTION_FROM_OUT 7

// Each sees the other's presence.
#define APPXMPP_SUBSCRIPTION_BOTH 8

// The major version of the header; a different one is a different interface.
#define APPXMPP_VERSION_MAJOR 0

// The minor version of the header; before 1.0, a different one is a different interface.
#define APPXMPP_VERSION_MINOR 1

// The patch version of the header.
#define APPXMPP_VERSION_PATCH 0

// What became of a call.
typedef enum {
  // Done.
  APPXMPP_OK = 0,
  // An address is not a JID (RFC 7622), or is empty. Fix the input.
  APPXMPP_INVALID_JID = 1,
  // XML is not well-formed, or uses what RFC 6120 §11.1 forbids. Fix the input.
  APPXMPP_INVALID_XML = 2,
  // A message has no body. Fix the input.
  APPXMPP_NO_BODY = 3,
  // A message or presence type is not one of App Engine's. Fix the input.
  APPXMPP_INVALID_TYPE = 4,
  // A presence show value is not one of RFC 6121 §4.7.2.1. Fix the input.
  APPXMPP_INVALID_SHOW = 5,
  // A presence status is longer than 1024 characters. Fix the input.
  APPXMPP_INVALID_STATUS = 6,
  // A body or stanza is over its size limit. Fix the input.
  APPXMPP_TOO_LARGE = 7,
  // The sender is not an address of this app. Use one of its own.
  APPXMPP_INVALID_SENDER = 8,
  // No stream to the server is up. Try later.
  APPXMPP_NOT_CONNECTED = 9,
  // A bounded queue is full. Try later.
  APPXMPP_BUSY = 10,
  // Nothing came in the time allowed. The caller decides.
  APPXMPP_TIMEOUT = 11,
  // A setting is missing, malformed or contradictory. For the operator.
  APPXMPP_CONFIG = 12,
  // The server refused the credentials. For the operator.
  APPXMPP_NOT_AUTHORIZED = 13,
  // The handle was closed by this program. Open another.
  APPXMPP_CLOSED = 14,
  // The state store failed. For the operator.
  APPXMPP_STORE = 15,
  // A fault of the library. Please report it.
  APPXMPP_INTERNAL = 16,
  // The arguments of one call are over 1 MiB in all. Fix the input.
  APPXMPP_REQUEST_TOO_LARGE = 17,
  // A quota of today is used up. Try tomorrow (UTC), or raise it.
  APPXMPP_OVER_QUOTA = 18,
  // A pointer that must not be NULL is. Fix the call.
  APPXMPP_NULL_ARGUMENT = 95,
  // A string is not UTF-8. Fix the input.
  APPXMPP_NOT_UTF8 = 96,
  // An argument is out of its range. Fix the call.
  APPXMPP_INVALID_ARGUMENT = 97,
  // A wait was ended by an interrupt from another thread. The caller decides.
  APPXMPP_INTERRUPTED = 98,
  // A panic inside the library, caught. Please report it.
  APPXMPP_PANIC = 99,
} appxmpp_result;

// One app on one connection to an XMPP server. When the stream breaks it is made anew, for ever,
// unless the server refuses the credentials.
typedef struct appxmpp_connection appxmpp_connection;

// A failure that a call has stored: its result and a sentence for people.
typedef struct appxmpp_error appxmpp_error;

// A request that App Engine would have made of the app: a path and the fields of a form.
//
// Until it is done, no other event of the same sender is given out; events of different senders may
// be handled at the same time.
typedef struct appxmpp_event appxmpp_event;

// An address, `localpart@domainpart/resourcepart` (RFC 7622), valid and prepared.
typedef struct appxmpp_jid appxmpp_jid;

// Settings of a connection. What is not set has its default.
typedef struct appxmpp_options appxmpp_options;

// A message, presence stanza or iq in the namespace `jabber:client`.
typedef struct appxmpp_stanza appxmpp_stanza;

// The state machine of one stream on one connection. Times are milliseconds of any clock that never
// goes back.
//
// After each call that takes the time: take events until `appxmpp_stream_poll_event` has none, then
// transmit what `appxmpp_stream_poll_transmit` has (what was received is read as events are taken),
// and call `appxmpp_stream_handle_timeout` no later than `appxmpp_stream_poll_timeout` says.
typedef struct appxmpp_stream appxmpp_stream;

// What happened on a stream.
typedef struct appxmpp_stream_event appxmpp_stream_event;

// Text borrowed from a handle: `len` bytes of UTF-8 at `data`, then a NUL byte.
typedef struct {
  // The first byte; never NULL. An absent text has `len` 0.
  const char *data;
  // How many bytes, without the NUL byte at the end.
  size_t len;
} appxmpp_str;

// Hears one record: `userdata` as it was set, an `APPXMPP_LOG_*` level, which part of the library
// speaks, and `len` bytes of text. Both strings end with a NUL byte and live until the call returns.
typedef void (*appxmpp_log_callback)(void *userdata,
                                     int32_t level,
                                     const char *target,
                                     const char *text,
                                     size_t len);

// Hears that a callback will not be called any more.
typedef void (*appxmpp_log_finalizer)(void *userdata);

// Whether a call that waits is to go on waiting; `userdata` is the caller's.
typedef bool (*appxmpp_check)(void *userdata);

// One of the messages of `appxmpp_send_messages`. Texts are as in `appxmpp_send_message`; one that is
// left out has NULL `data`, and `len` may be `APPXMPP_NUL`.
typedef struct {
  // To whom.
  appxmpp_str to;
  // The text, or with `raw_xml` the children as XML.
  appxmpp_str body;
  // From whom; left out for `appxmpp_connection_address`.
  appxmpp_str from;
  // The type; left out for `chat`.
  appxmpp_str message_type;
  // Whether `body` is XML.
  bool raw_xml;
  // Written by the call: `APPXMPP_OK`, or why the message was refused as `appxmpp_send_message`
  // would have.
  appxmpp_result result;
  // Written by the call: an `APPXMPP_STATUS_*`; `APPXMPP_STATUS_OTHER_ERROR` if it was refused.
  int32_t status;
} appxmpp_message;

// A contact's presence as the app sees it.
typedef struct {
  // Whether the contact is available.
  bool available;
  // Whether what was asked for is an address at all.
  bool valid;
  // With which show: an `APPXMPP_SHOW_*`.
  int32_t show;
} appxmpp_presence;

// What a presence of one of the four subscription types does.
typedef struct {
  // One that the app sends: whether it is to be sent on. One that arrived: whether it is news.
  bool passes;
  // The state afterwards: an `APPXMPP_SUBSCRIPTION_*`.
  int32_t state;
} appxmpp_transition;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Starts to connect as the app that `backend` names, in the form of `APPXMPP_BACKEND`:
// `component://DOMAIN:SECRET@HOST[:PORT]`, `component+unix://DOMAIN:SECRET@/path/to.sock`,
// `component+tls://DOMAIN:SECRET@HOST[:PORT]` or, for an ordinary account,
// `client://LOCALPART:PASSWORD@DOMAIN[:PORT]`, where
// `:SECRET` may be left out (see `appxmpp_options_set_secret`); the options that may follow are the
// README's. Without a port, and with the library's feature `srv`, the DNS is asked where an account's
// server listens (RFC 6120 section 3.2.1). What other programs may have there besides is refused:
// `stub:`, and a gateway's `http://`, whose API a program in C calls itself. NULL means the environment's
// `APPXMPP_BACKEND`. `options` may be NULL. `out` receives a new handle, before the stream is up:
// `appxmpp_connection_wait_ready` waits for that. The first connection of a process starts the
// library's thread.
//
// Fails with `APPXMPP_CONFIG` for a setting that is missing or malformed, `APPXMPP_STORE` if the
// state file cannot be used, `APPXMPP_INTERNAL` if no thread can be started.
appxmpp_result appxmpp_connection_open(const char *backend,
                                       size_t len,
                                       const appxmpp_options *options,
                                       appxmpp_connection **out,
                                       appxmpp_error **error);

// Waits until a stream is up, at most `timeout_ms` milliseconds (`APPXMPP_FOREVER`: without end).
//
// Fails with `APPXMPP_TIMEOUT`, `APPXMPP_INTERRUPTED`, `APPXMPP_NOT_AUTHORIZED` if the server
// refused the credentials for good, and `APPXMPP_CLOSED`.
appxmpp_result appxmpp_connection_wait_ready(const appxmpp_connection *connection,
                                             uint64_t timeout_ms,
                                             appxmpp_error **error);

// Whether a stream is up now; `false` if `connection` is NULL.
bool appxmpp_connection_is_ready(const appxmpp_connection *connection);

// The address that the app sends from unless it says otherwise, `APP_ID@DOMAIN/bot`; empty if
// `connection` is NULL. Lives as long as `connection`.
appxmpp_str appxmpp_connection_address(const appxmpp_connection *connection);

// Sends one stanza; returns when it is written to a live stream. Without a `from`, the app's own
// address is set.
//
// Fails with `APPXMPP_NOT_CONNECTED` if no stream is up, `APPXMPP_INVALID_SENDER` for a `from` that
// is not of the component's domain, `APPXMPP_TOO_LARGE`, `APPXMPP_TIMEOUT` if the socket did not
// take it in the options' send timeout (it may be written later), and `APPXMPP_CLOSED`.
appxmpp_result appxmpp_connection_send_stanza(const appxmpp_connection *connection,
                                              const appxmpp_stanza *stanza,
                                              appxmpp_error **error);

// Sends an iq of type `get` or `set` and waits for its answer, at most `timeout_ms` milliseconds;
// `out` receives a new handle. Without an `id` one is set, without a `from` the app's own address.
// An answer of type `error` is no failure: it is the answer.
//
// Fails with `APPXMPP_TIMEOUT` if no answer came, `APPXMPP_INVALID_XML` for what is no request,
// `APPXMPP_BUSY` if too many requests wait; otherwise as `appxmpp_connection_send_stanza`.
appxmpp_result appxmpp_connection_request(const appxmpp_connection *connection,
                                          const appxmpp_stanza *iq,
                                          uint64_t timeout_ms,
                                          appxmpp_stanza **out,
                                          appxmpp_error **error);

// Ends every wait for readiness or for an event on this connection with `APPXMPP_INTERRUPTED`; if
// there is none, the next one. It may be called from any thread, but not from a signal handler.
// NULL is allowed.
void appxmpp_connection_interrupt(const appxmpp_connection *connection);

// A file descriptor for `poll` and the like: readable while an event waits, after an interrupt, and
// once the connection is closed and no event is left. Do not read, write or close it; it lives as
// long as `connection`. When it is readable, call `appxmpp_connection_next_event` with a timeout of
// 0; it may find nothing if another thread was faster.
//
// Fails with `APPXMPP_INTERNAL` if the process has no descriptor left, and `APPXMPP_CLOSED`.
appxmpp_result appxmpp_connection_fd(const appxmpp_connection *connection,
                                     int32_t *out,
                                     appxmpp_error **error);

// Closes the connection: no more events come in, those under way are waited for, contacts are told,
// the stream is closed; all of it in at most `deadline_ms` milliseconds. Events that wait are still
// given to `appxmpp_connection_next_event` meanwhile. Waits on other threads end with
// `APPXMPP_CLOSED`. The handle remains to be freed.
appxmpp_result appxmpp_connection_close(const appxmpp_connection *connection,
                                        uint64_t deadline_ms,
                                        appxmpp_error **error);

// Frees a connection; NULL is allowed. One that was not closed is closed now, without waiting for
// anything. Events taken from it stay valid until they are freed.
void appxmpp_connection_free(appxmpp_connection *connection);

// The name of a result, such as "APPXMPP_TIMEOUT"; lives for ever.
//
// `result` is any number. One that is no result gives "APPXMPP_UNKNOWN".
const char *appxmpp_result_name(int32_t result);

// The result that the failed call returned; `APPXMPP_NULL_ARGUMENT` if `error` is NULL.
appxmpp_result appxmpp_error_result(const appxmpp_error *error);

// What happened, to which value, and what to do next; empty if `error` is NULL. Lives as long as
// `error`.
appxmpp_str appxmpp_error_text(const appxmpp_error *error);

// Frees an error object; NULL is allowed.
void appxmpp_error_free(appxmpp_error *error);

// Takes the next event, waiting for it at most `timeout_ms` milliseconds (0: not at all,
// `APPXMPP_FOREVER`: without end); `out` receives a new handle. Any number of threads may wait.
//
// Fails with `APPXMPP_TIMEOUT`, `APPXMPP_INTERRUPTED` after `appxmpp_connection_interrupt`, and
// `APPXMPP_CLOSED` when the connection was closed and no event is left.
appxmpp_result appxmpp_connection_next_event(const appxmpp_connection *connection,
                                             uint64_t timeout_ms,
                                             appxmpp_event **out,
                                             appxmpp_error **error);

// Takes up to `max` events, each of a different sender, waiting as `appxmpp_connection_next_event`
// does for the first; `out` receives `count` new handles. For a program that handles many at once, as
// with `appxmpp_send_messages`.
//
// Fails as `appxmpp_connection_next_event` does, and with `APPXMPP_INVALID_ARGUMENT` if `max` is 0.
appxmpp_result appxmpp_connection_next_events(const appxmpp_connection *connection,
                                              uint64_t timeout_ms,
                                              size_t max,
                                              appxmpp_event **out,
                                              size_t *count,
                                              appxmpp_error **error);

// A number that no other event of the connection has; 0 if `event` is NULL.
uint64_t appxmpp_event_id(const appxmpp_event *event);

// The path that App Engine would have posted to, such as `/_ah/xmpp/message/chat/`. Lives as long
// as `event`.
appxmpp_str appxmpp_event_path(const appxmpp_event *event);

// Which of App Engine's `inbound_services` it belongs to: `xmpp_message`, `xmpp_presence`,
// `xmpp_subscribe` or `xmpp_error`. Lives as long as `event`.
appxmpp_str appxmpp_event_service(const appxmpp_event *event);

// The sender's bare address; events with the same one come in order. Lives as long as `event`.
appxmpp_str appxmpp_event_sender(const appxmpp_event *event);

// The value of the form's field `name`: `from`, `to`, `body`, `stanza`, …; empty if there is none.
// Lives as long as `event`.
appxmpp_str appxmpp_event_field(const appxmpp_event *event,
                                const char *name,
                                size_t name_len);

// How many fields the form has; 0 if `event` is NULL.
size_t appxmpp_event_field_count(const appxmpp_event *event);

// The name of the form's field number `index`, in App Engine's order; empty from
// `appxmpp_event_field_count` on. Lives as long as `event`.
appxmpp_str appxmpp_event_field_name(const appxmpp_event *event, size_t index);

// The value of the form's field number `index`; empty from `appxmpp_event_field_count` on. Lives as
// long as `event`.
appxmpp_str appxmpp_event_field_value(const appxmpp_event *event, size_t index);

// The stanza itself; NULL if `event` is NULL. Lives as long as `event`.
const appxmpp_stanza *appxmpp_event_stanza(const appxmpp_event *event);

// Says that the app is done with an event: it handled it, or failed to. The sender's next event is
// given out then. A second call does nothing.
appxmpp_result appxmpp_event_done(appxmpp_event *event, bool handled, appxmpp_error **error);

// Frees an event; NULL is allowed. One that is not done counts as failed.
void appxmpp_event_free(appxmpp_event *event);

// Parses and prepares an address; `out` receives a new handle.
//
// Fails with `APPXMPP_INVALID_JID`.
appxmpp_result appxmpp_jid_parse(const char *text,
                                 size_t len,
                                 appxmpp_jid **out,
                                 appxmpp_error **error);

// Builds an address of its parts; `out` receives a new handle. `localpart` and `resourcepart` may be
// NULL, which means that there is none.
//
// Fails with `APPXMPP_INVALID_JID`.
appxmpp_result appxmpp_jid_format(const char *localpart,
                                  size_t localpart_len,
                                  const char *domainpart,
                                  size_t domainpart_len,
                                  const char *resourcepart,
                                  size_t resourcepart_len,
                                  appxmpp_jid **out,
                                  appxmpp_error **error);

// The whole address in its prepared form; empty if `jid` is NULL. Lives as long as `jid`.
appxmpp_str appxmpp_jid_full(const appxmpp_jid *jid);

// The address without its resourcepart; empty if `jid` is NULL. Lives as long as `jid`.
appxmpp_str appxmpp_jid_bare(const appxmpp_jid *jid);

// The part before `@`; empty if there is none. Lives as long as `jid`.
appxmpp_str appxmpp_jid_localpart(const appxmpp_jid *jid);

// The domain name; empty only if `jid` is NULL. Lives as long as `jid`.
appxmpp_str appxmpp_jid_domainpart(const appxmpp_jid *jid);

// The part after the first `/`; empty if there is none. Lives as long as `jid`.
appxmpp_str appxmpp_jid_resourcepart(const appxmpp_jid *jid);

// Orders two addresses: negative, 0 or positive, 0 if and only if they name the same entity. NULL
// comes before every address.
int32_t appxmpp_jid_compare(const appxmpp_jid *a, const appxmpp_jid *b);

// Frees an address; NULL is allowed.
void appxmpp_jid_free(appxmpp_jid *jid);

// Has `callback` hear what this process's library says at `level` (an `APPXMPP_LOG_*`) and more
// urgent ones, instead of whoever heard it before. NULL, or `APPXMPP_LOG_OFF`, means nobody, as at
// the start. Secrets and the bodies of messages are never part of it.
//
// `callback` is called from any thread, one of the library's own too, and at the same time from
// several; it must return soon, and may call the library, but not wait in it. `finalizer` may be
// NULL; it is called once with `userdata` when `callback` will not be called any more, which may be
// within this call, within a later one, or on another thread soon after.
//
// Fails with `APPXMPP_INVALID_ARGUMENT` for a number that is no level; `finalizer` is not called
// then. In a process made by `fork` nobody hears anything until it is set again.
appxmpp_result appxmpp_log_set(int32_t level,
                               appxmpp_log_callback callback,
                               void *userdata,
                               appxmpp_log_finalizer finalizer,
                               appxmpp_error **error);

// Starts with the default of every setting; `out` receives a new handle.
appxmpp_result appxmpp_options_new(appxmpp_options **out, appxmpp_error **error);

// Sets the application id, the localpart of the address that the app sends from. By default it is
// the first label of the component's domain.
appxmpp_result appxmpp_options_set_app_id(appxmpp_options *options,
                                          const char *app_id,
                                          size_t len,
                                          appxmpp_error **error);

// Sets which version of the app this is, unless it is the default one: the component is then called
// `VERSION.latest.DOMAIN`, and what the app sends from an address of the default version goes out from
// the same name at its own. If the component is not called so, opening the connection fails with
// `APPXMPP_CONFIG`.
appxmpp_result appxmpp_options_set_version(appxmpp_options *options,
                                           const char *version,
                                           size_t len,
                                           appxmpp_error **error);

// Sets in which form the fields of events have the app's own addresses: `domain`, the default, as they
// are, or `appengine`, as `APP_ID@appspot.com` and `anything@APP_ID.appspotchat.com`. What the app sends
// may be from either.
//
// Fails with `APPXMPP_CONFIG` for another form.
appxmpp_result appxmpp_options_set_addresses(appxmpp_options *options,
                                             const char *form,
                                             size_t len,
                                             appxmpp_error **error);

// Sets the secret that the component shares with the server, for a backend whose text has none. By
// default it is what `APPXMPP_SECRET` holds, or the file that `APPXMPP_SECRET_FILE` names.
appxmpp_result appxmpp_options_set_secret(appxmpp_options *options,
                                          const char *secret,
                                          size_t len,
                                          appxmpp_error **error);

// Sets which events the app wants, by the names of App Engine's `inbound_services`: `xmpp_message`,
// `xmpp_presence`, `xmpp_subscribe`, `xmpp_error`. By default all. `names` are `count` strings,
// `lens` their lengths; NULL lengths mean that all are NUL-terminated.
//
// Fails with `APPXMPP_CONFIG` for a name that begins with `xmpp` and is none of these; other names
// are passed over.
appxmpp_result appxmpp_options_set_inbound_services(appxmpp_options *options,
                                                    const char *const *names,
                                                    const size_t *lens,
                                                    size_t count,
                                                    appxmpp_error **error);

// Sets the file in which subscriptions and presence survive a restart; it is made if it is not
// there. By default nothing survives.
//
// With the feature postgres a `postgresql://` URL can be given instead, with sslmode and sslrootcert
// as libpq has them; to another machine it is verify-full if nothing is said. A library built without
// what is asked for fails with `APPXMPP_CONFIG` when the connection is opened.
appxmpp_result appxmpp_options_set_state_file(appxmpp_options *options,
                                              const char *path,
                                              size_t len,
                                              appxmpp_error **error);

// Sets whether messages, presence and invitations are on disk before they count as sent, and kept
// until the server has read them, and events until they are done: all then survive a broken stream
// and a restart. By default they do not. It takes a state file: without one, opening the connection
// fails with `APPXMPP_CONFIG`.
appxmpp_result appxmpp_options_set_durable(appxmpp_options *options,
                                           bool durable,
                                           appxmpp_error **error);

// Sets how much of a resource the app may use in a day of UTC: `api_calls`, `data_sent_bytes`,
// `recipients_messaged` or `invitations_sent`. By default all are counted and none has a limit. A call
// that would use more fails with `APPXMPP_OVER_QUOTA`, and does nothing.
//
// Fails with `APPXMPP_CONFIG` for another name.
appxmpp_result appxmpp_options_set_quota(appxmpp_options *options,
                                         const char *name,
                                         size_t len,
                                         uint64_t limit,
                                         appxmpp_error **error);

// Sets after how much silence the server is asked whether it is still there; 0 for never. Default
// 60,000.
appxmpp_result appxmpp_options_set_keepalive(appxmpp_options *options,
                                             uint64_t idle_ms,
                                             appxmpp_error **error);

// Sets whether messages without a body (chat states, receipts) become events, without the field
// `body`. By default they do not: App Engine's apps never saw any.
appxmpp_result appxmpp_options_set_bodiless_messages(appxmpp_options *options,
                                                     bool wanted,
                                                     appxmpp_error **error);

// Sets how long a call that sends waits while the socket takes nothing more; default 30,000. What
// is not written by then has failed.
appxmpp_result appxmpp_options_set_send_timeout(appxmpp_options *options,
                                                uint64_t timeout_ms,
                                                appxmpp_error **error);

// Frees settings; NULL is allowed. Connections opened with them keep their copy.
void appxmpp_options_free(appxmpp_options *options);

// The text of a show as in `<show/>` (RFC 6121 §4.7.2.1): "away", "dnd", "chat", "xa"; empty for
// every other number. Lives for ever.
const char *appxmpp_show_name(int32_t show);

// App Engine's `XmppServiceError` for a result, an `APPXMPP_SERVICE_*`; 0 for `APPXMPP_OK`.
//
// `result` is any number; what App Engine has no number for gives `APPXMPP_SERVICE_UNSPECIFIED_ERROR`.
int32_t appxmpp_result_service_error(int32_t result);

// App Engine's `send_message`: sends `body` to `count` recipients and writes `count` statuses
// (`APPXMPP_STATUS_*`), in the order of the recipients. Returns when all is written to a live stream
// or has failed.
//
// `jids` are the recipients' addresses, `jid_lens` their lengths; NULL lengths mean that all are
// NUL-terminated. `from` is the sender, an address of the app; NULL means
// `appxmpp_connection_address`. `type` is a message type of RFC 6121 §5.2.2; NULL means `chat`, the
// empty text a message without one. With `raw_xml`, `body` is the message's children as XML.
//
// Fails, and sends nothing, with `APPXMPP_NO_BODY`, `APPXMPP_INVALID_JID` for no recipient, an empty
// one or a bad `from`, `APPXMPP_INVALID_SENDER` for a foreign `from`, `APPXMPP_INVALID_TYPE`,
// `APPXMPP_INVALID_XML`, `APPXMPP_TOO_LARGE` for a body over 100 KB, `APPXMPP_REQUEST_TOO_LARGE` for
// a call over 1 MiB, `APPXMPP_CLOSED` only after a fork. That no stream is up is no failure but
// `APPXMPP_STATUS_OTHER_ERROR`.
appxmpp_result appxmpp_send_message(const appxmpp_connection *connection,
                                    const char *const *jids,
                                    const size_t *jid_lens,
                                    size_t count,
                                    const char *body,
                                    size_t body_len,
                                    const char *from,
                                    size_t from_len,
                                    const char *type_,
                                    size_t type_len,
                                    bool raw_xml,
                                    int32_t *statuses,
                                    appxmpp_error **error);

// `appxmpp_send_message` that can be given up: while the socket takes nothing more, `check` is called
// with `userdata` about twenty times a second, by the thread that called; when it gives `false`, what
// is not written has `APPXMPP_STATUS_OTHER_ERROR` (it may be written later). A call that need not wait
// does not call it. `check` may be NULL.
appxmpp_result appxmpp_send_message_checked(const appxmpp_connection *connection,
                                            const char *const *jids,
                                            const size_t *jid_lens,
                                            size_t count,
                                            const char *body,
                                            size_t body_len,
                                            const char *from,
                                            size_t from_len,
                                            const char *type_,
                                            size_t type_len,
                                            bool raw_xml,
                                            appxmpp_check check,
                                            void *userdata,
                                            int32_t *statuses,
                                            appxmpp_error **error);

// Sends `count` messages that have nothing in common, in order and with one write: cheaper than as
// many calls of `appxmpp_send_message`. Returns when all are written to a live stream or have failed,
// and each message says what became of it. One that is refused stops no other.
//
// Fails, with nothing sent and written, with `APPXMPP_CLOSED` only after a fork.
appxmpp_result appxmpp_send_messages(const appxmpp_connection *connection,
                                     appxmpp_message *messages,
                                     size_t count,
                                     appxmpp_error **error);

// App Engine's `send_presence`: tells `jid` the presence of the app. `type` is empty or NULL for
// available, `unavailable` or `probe`; `show` is empty or NULL, `away`, `chat`, `dnd` or `xa`;
// `status_text` is for people, NULL for none; `from` is as in `appxmpp_send_message`. `status`
// receives an `APPXMPP_STATUS_*` and may be NULL: presence that could not be sent is told when the
// stream is up again.
//
// Fails with `APPXMPP_INVALID_JID`, `APPXMPP_INVALID_TYPE`, `APPXMPP_INVALID_SHOW`,
// `APPXMPP_INVALID_STATUS`, `APPXMPP_INVALID_SENDER`, `APPXMPP_REQUEST_TOO_LARGE`.
appxmpp_result appxmpp_send_presence(const appxmpp_connection *connection,
                                     const char *jid,
                                     size_t jid_len,
                                     const char *type_,
                                     size_t type_len,
                                     const char *show,
                                     size_t show_len,
                                     const char *status_text,
                                     size_t status_text_len,
                                     const char *from,
                                     size_t from_len,
                                     int32_t *status,
                                     appxmpp_error **error);

// App Engine's `send_invite`: asks `jid` whether the app may see its presence. `from` is as in
// `appxmpp_send_message`. `status` receives an `APPXMPP_STATUS_*` and may be NULL.
//
// Fails with `APPXMPP_INVALID_JID`, `APPXMPP_INVALID_SENDER`, `APPXMPP_STORE`.
appxmpp_result appxmpp_send_invite(const appxmpp_connection *connection,
                                   const char *jid,
                                   size_t jid_len,
                                   const char *from,
                                   size_t from_len,
                                   int32_t *status,
                                   appxmpp_error **error);

// App Engine's `get_presence` of one contact, from what is known: nobody is asked. `from`, whose
// contact it is, is as in `appxmpp_send_message`.
//
// Fails with `APPXMPP_INVALID_JID` if `jid` is no address, and `APPXMPP_INVALID_SENDER`.
appxmpp_result appxmpp_get_presence(const appxmpp_connection *connection,
                                    const char *jid,
                                    size_t jid_len,
                                    const char *from,
                                    size_t from_len,
                                    appxmpp_presence *out,
                                    appxmpp_error **error);

// App Engine's `get_presence` of `count` contacts; `out` receives `count` answers in the order of
// the contacts. `jids` and `jid_lens` are as in `appxmpp_send_message`, `from` as in
// `appxmpp_get_presence`.
//
// Fails with `APPXMPP_INVALID_JID` if `count` is 0 or `from` is no address, and
// `APPXMPP_INVALID_SENDER`. A contact that is no address is no failure: its `valid` is false.
appxmpp_result appxmpp_get_presence_list(const appxmpp_connection *connection,
                                         const char *const *jids,
                                         const size_t *jid_lens,
                                         size_t count,
                                         const char *from,
                                         size_t from_len,
                                         appxmpp_presence *out,
                                         appxmpp_error **error);

// Starts a stanza of `kind` (`APPXMPP_MESSAGE`, `APPXMPP_PRESENCE` or `APPXMPP_IQ`) without
// attributes and children; `out` receives a new handle.
//
// Fails with `APPXMPP_INVALID_ARGUMENT`.
appxmpp_result appxmpp_stanza_new(int32_t kind, appxmpp_stanza **out, appxmpp_error **error);

// Parses one stanza; `out` receives a new handle. Without a namespace declaration, the stanza is
// taken to be in `jabber:client`; one in `jabber:component:accept` becomes one in `jabber:client`.
//
// Fails with `APPXMPP_INVALID_XML` for what is not well-formed, is forbidden in XMPP (RFC 6120
// §11.1) or is no stanza, and with `APPXMPP_TOO_LARGE`.
appxmpp_result appxmpp_stanza_parse(const char *xml,
                                    size_t len,
                                    appxmpp_stanza **out,
                                    appxmpp_error **error);

// `APPXMPP_MESSAGE`, `APPXMPP_PRESENCE` or `APPXMPP_IQ`; 0 if `stanza` is NULL.
int32_t appxmpp_stanza_kind(const appxmpp_stanza *stanza);

// The value of the attribute `name` (`from`, `to`, `id`, `type`, `xml:lang`, …); empty if it is not
// there. Lives until the stanza is changed or freed.
appxmpp_str appxmpp_stanza_attribute(const appxmpp_stanza *stanza,
                                     const char *name,
                                     size_t name_len);

// Sets the attribute `name` to `value`, or removes it if `value` is NULL.
//
// Fails with `APPXMPP_INVALID_XML` for what is not the name of an attribute or holds characters that
// XML cannot carry.
appxmpp_result appxmpp_stanza_set_attribute(appxmpp_stanza *stanza,
                                            const char *name,
                                            size_t name_len,
                                            const char *value,
                                            size_t value_len,
                                            appxmpp_error **error);

// The text of the first `<body/>`; empty if there is none. Lives until the stanza is changed or
// freed.
appxmpp_str appxmpp_stanza_body(const appxmpp_stanza *stanza);

// Adds a `<body/>` with `text` inside, escaped.
//
// Fails with `APPXMPP_INVALID_XML` for characters that XML cannot carry, and `APPXMPP_TOO_LARGE`.
appxmpp_result appxmpp_stanza_add_body(appxmpp_stanza *stanza,
                                       const char *text,
                                       size_t len,
                                       appxmpp_error **error);

// Adds children written as XML; elements without a namespace are in `jabber:client`.
//
// Fails with `APPXMPP_INVALID_XML` for anything but well-formed siblings, and `APPXMPP_TOO_LARGE`.
appxmpp_result appxmpp_stanza_add_xml(appxmpp_stanza *stanza,
                                      const char *xml,
                                      size_t len,
                                      appxmpp_error **error);

// The children as XML, without the stanza around them; elements without a namespace are in
// `jabber:client`. Lives until the stanza is changed or freed.
appxmpp_str appxmpp_stanza_children_xml(const appxmpp_stanza *stanza);

// The stanza as XML that can be parsed alone. Lives until the stanza is changed or freed.
appxmpp_str appxmpp_stanza_xml(const appxmpp_stanza *stanza);

// Frees a stanza; NULL is allowed.
void appxmpp_stanza_free(appxmpp_stanza *stanza);

// The name of number `index`, from 0 on; empty where there are no more. Lives for ever. There are
// `ready` (1 if a stream is up), `connects`, `disconnects`, `stanzas_in`, `stanzas_out`, `bytes_in`,
// `bytes_out`, `stanzas_skipped`, `outbound_queue` (stanzas that wait to be written), `contacts`,
// `deliveries` (events that wait or are being handled), `deliveries_handled`, `deliveries_failed`,
// `deliveries_refused` (for which there was no room), and more: what was used today of what has a quota
// (`today_...` and `quota_...`), what waits to be sent and what became of it (`outbox_...`).
appxmpp_str appxmpp_stat_name(size_t index);

// The number called `name`, one of `appxmpp_stat_name`; `APPXMPP_NO_NUMBER` for a quota that has no
// limit, and for the outbox of an app that is not durable.
//
// Fails with `APPXMPP_INVALID_ARGUMENT` for another name.
appxmpp_result appxmpp_connection_stat(const appxmpp_connection *connection,
                                       const char *name,
                                       size_t name_len,
                                       uint64_t *out,
                                       appxmpp_error **error);

// A stream of the component `domain` on a connection made at `now_ms`; `out` receives a new handle.
// Our header is there to be transmitted. `id_prefix` begins the ids of the stream's own pings: pass
// random letters that nobody else can guess.
//
// Fails with `APPXMPP_INVALID_JID` if `domain` is no domain.
appxmpp_result appxmpp_stream_new(const char *domain,
                                  size_t domain_len,
                                  const char *secret,
                                  size_t secret_len,
                                  const char *id_prefix,
                                  size_t id_prefix_len,
                                  uint64_t now_ms,
                                  appxmpp_stream **out,
                                  appxmpp_error **error);

// Takes `len` bytes as they were received; 0 means that the connection is at its end.
appxmpp_result appxmpp_stream_handle_input(appxmpp_stream *stream,
                                           uint64_t now_ms,
                                           const char *bytes,
                                           size_t len,
                                           appxmpp_error **error);

// Does what is due at `now_ms`.
appxmpp_result appxmpp_stream_handle_timeout(appxmpp_stream *stream,
                                             uint64_t now_ms,
                                             appxmpp_error **error);

// When `appxmpp_stream_handle_timeout` is to be called next, in milliseconds of the caller's clock;
// `UINT64_MAX` for never.
uint64_t appxmpp_stream_poll_timeout(const appxmpp_stream *stream);

// Sends one stanza; its `from` must be an address of the component's domain.
//
// Fails with `APPXMPP_NOT_CONNECTED` unless the stream is ready, and with `APPXMPP_INVALID_SENDER`.
appxmpp_result appxmpp_stream_send(appxmpp_stream *stream,
                                   uint64_t now_ms,
                                   const appxmpp_stanza *stanza,
                                   appxmpp_error **error);

// Closes the stream: the server is told, and has until `deadline_ms` to close its half.
appxmpp_result appxmpp_stream_close(appxmpp_stream *stream,
                                    uint64_t now_ms,
                                    uint64_t deadline_ms,
                                    appxmpp_error **error);

// What is to be transmitted, all of it; empty if there is nothing. Lives until the next call with
// `stream`. The caller must transmit it or drop the connection: it is given once.
appxmpp_str appxmpp_stream_poll_transmit(appxmpp_stream *stream);

// What happened next: a new handle, or NULL if there is nothing (more) until the next input.
appxmpp_stream_event *appxmpp_stream_poll_event(appxmpp_stream *stream);

// `APPXMPP_STREAM_READY`, `_STANZA`, `_SKIPPED` or `_CLOSED`; 0 if `event` is NULL.
int32_t appxmpp_stream_event_kind(const appxmpp_stream_event *event);

// The stanza of an `APPXMPP_STREAM_STANZA`, otherwise NULL. Lives as long as `event`.
const appxmpp_stanza *appxmpp_stream_event_stanza(const appxmpp_stream_event *event);

// Why a stanza was skipped or the stream closed; otherwise empty. Lives as long as `event`.
appxmpp_str appxmpp_stream_event_text(const appxmpp_stream_event *event);

// Frees an event; NULL is allowed.
void appxmpp_stream_event_free(appxmpp_stream_event *event);

// Frees a stream; NULL is allowed. Nothing is transmitted.
void appxmpp_stream_free(appxmpp_stream *stream);

// What a presence of the type `type` (`subscribe`, `subscribed`, `unsubscribe` or `unsubscribed`) does
// to the subscriptions between an app's address and a contact: RFC 6121 appendix A.2 for one that is
// sent, appendix A.3 for one that arrived (`inbound`). `state` is an `APPXMPP_SUBSCRIPTION_*`.
//
// A connection keeps this table by itself; this is for programs with streams of their own.
//
// Fails with `APPXMPP_INVALID_ARGUMENT` for another number and `APPXMPP_INVALID_TYPE` for another type.
appxmpp_result appxmpp_subscription_next(int32_t state,
                                         bool inbound,
                                         const char *type_,
                                         size_t type_len,
                                         appxmpp_transition *out,
                                         appxmpp_error **error);

// The version of the library, such as "0.1.0"; lives for ever.
const char *appxmpp_version(void);

// Whether the library fits the header it is called through.
//
// Pass `APPXMPP_VERSION_MAJOR`, `APPXMPP_VERSION_MINOR` and `APPXMPP_VERSION_PATCH`. Before 1.0 the
// minor version must be the same and the patch version not newer than the library's.
bool appxmpp_version_check(int32_t major, int32_t minor, int32_t patch);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* APPXMPP_H */
