// libappxmpp: App Engine's chat service, on any XMPP server, from C.
//
// Conventions (all of them; no function departs from one without saying so)
//
// Names. Everything is appxmpp_<object>_<verb>; constants are APPXMPP_*.
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
// Fork. Handles do not cross fork: the child must not use what the parent opened, and opens its
// own.
//
// Faults. A NULL that is not allowed gives APPXMPP_NULL_ARGUMENT. A fault inside the library ends
// in APPXMPP_PANIC, never in the caller's stack.

#ifndef APPXMPP_H
#define APPXMPP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
// The length that means "up to the NUL byte".
#define APPXMPP_NUL SIZE_MAX



// A message (RFC 6121 §5).
#define APPXMPP_MESSAGE 1

// A presence stanza (RFC 6121 §4).
#define APPXMPP_PRESENCE 2

// An iq (RFC 6120 §8.2.3).
#define APPXMPP_IQ 3

// The server accepted the handshake: stanzas may be sent.
#define APPXMPP_STREAM_READY 1

// A stanza for the component.
#define APPXMPP_STREAM_STANZA 2

// A stanza was unacceptable and was left out; the stream goes on.
#define APPXMPP_STREAM_SKIPPED 3

// The stream has ended; it is the last event. What is left to transmit should be, then the
// connection can be dropped.
#define APPXMPP_STREAM_CLOSED 4

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
  // A body, call or stanza is over its size limit. Fix the input.
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
  // A pointer that must not be NULL is. Fix the call.
  APPXMPP_NULL_ARGUMENT = 17,
  // A string is not UTF-8. Fix the input.
  APPXMPP_NOT_UTF8 = 18,
  // An argument is out of its range. Fix the call.
  APPXMPP_INVALID_ARGUMENT = 19,
  // A wait was ended by an interrupt from another thread. The caller decides.
  APPXMPP_INTERRUPTED = 20,
  // A panic inside the library, caught. Please report it.
  APPXMPP_PANIC = 99,
} appxmpp_result;

// A failure that a call has stored: its result and a sentence for people.
typedef struct appxmpp_error appxmpp_error;

// An address, `localpart@domainpart/resourcepart` (RFC 7622), valid and prepared.
typedef struct appxmpp_jid appxmpp_jid;

// A message, presence stanza or iq in the namespace `jabber:client`.
typedef struct appxmpp_stanza appxmpp_stanza;

// The state machine of one stream on one connection. Times are milliseconds of any clock that never
// goes back.
//
// After each call that takes the time: transmit what `appxmpp_stream_poll_transmit` has, take events
// until `appxmpp_stream_poll_event` has none, and call `appxmpp_stream_handle_timeout` no later than
// `appxmpp_stream_poll_timeout` says.
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

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

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
