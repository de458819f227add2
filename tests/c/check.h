/* What the tests in C share. A failed check ends the program with the line and what was found. */
#ifndef APPXMPP_TESTS_CHECK_H
#define APPXMPP_TESTS_CHECK_H

#include <appxmpp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);           \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

/* The string is `expected`, ends with a NUL byte, and says its length. */
#define CHECK_STR(found, expected) check_str(__FILE__, __LINE__, (found), (expected))

/* The call succeeds; its last argument is `&error`. */
#define OK(call)                                                                              \
    do {                                                                                      \
        appxmpp_error *error = NULL;                                                          \
        appxmpp_result result_ = (call);                                                      \
        if (result_ != APPXMPP_OK) {                                                          \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,                 \
                    appxmpp_result_name(result_), appxmpp_error_text(error).data);            \
            exit(1);                                                                          \
        }                                                                                     \
        CHECK(error == NULL);                                                                 \
    } while (0)

/* The call fails with `expected`, and its error says so, with `part` in its text. */
#define FAILS(expected, part, call)                                                           \
    do {                                                                                      \
        appxmpp_error *error = NULL;                                                          \
        appxmpp_result result_ = (call);                                                      \
        check_failure(__FILE__, __LINE__, #call, result_, (expected), error, (part));         \
        appxmpp_error_free(error);                                                            \
    } while (0)

static inline void check_str(const char *file, int line, appxmpp_str found, const char *expected)
{
    if (found.data == NULL || found.data[found.len] != 0 || found.len != strlen(expected)
        || memcmp(found.data, expected, found.len) != 0) {
        fprintf(stderr, "%s:%d: found \"%s\" (%lu bytes), expected \"%s\"\n", file, line,
                found.data ? found.data : "(NULL)", (unsigned long)found.len, expected);
        exit(1);
    }
}

static inline void check_failure(const char *file, int line, const char *call, appxmpp_result found,
                                 appxmpp_result expected, const appxmpp_error *error, const char *part)
{
    if (found != expected) {
        fprintf(stderr, "%s:%d: %s gave %s (%s), expected %s\n", file, line, call, appxmpp_result_name(found),
                appxmpp_error_text(error).data, appxmpp_result_name(expected));
        exit(1);
    }
    if (appxmpp_error_result(error) != expected || !strstr(appxmpp_error_text(error).data, part)) {
        fprintf(stderr, "%s:%d: %s: the error says %s \"%s\", expected \"%s\" in it\n", file, line, call,
                appxmpp_result_name(appxmpp_error_result(error)), appxmpp_error_text(error).data, part);
        exit(1);
    }
}

#endif
