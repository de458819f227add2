package xmpp

import (
	"errors"
	"fmt"
)

// String is the code's name in the header, such as INVALID_JID.
func (c Code) String() string {
	if name, known := codeNames[c]; known {
		return name
	}
	return fmt.Sprintf("Code(%d)", int32(c))
}

// Error is a refused or failed call. Compare with the Err values by errors.Is.
type Error struct {
	code Code
	text string
}

// Error says what happened, to which value, and what to do next.
func (e *Error) Error() string {
	return "xmpp: " + e.text
}

// Code tells kinds of failure apart.
func (e *Error) Code() Code {
	return e.code
}

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.code == e.code
}

// What errors.Is finds in the errors of this package.
var (
	// ErrInvalidJID: an address is not a JID (RFC 7622), or is empty. Fix the input.
	ErrInvalidJID error = &Error{CodeInvalidJID, "invalid JID"}
	// ErrInvalidXML: a body sent with RawXML is not well-formed, or is forbidden in XMPP.
	ErrInvalidXML error = &Error{CodeInvalidXML, "invalid XML"}
	// ErrNoBody: a message has no body.
	ErrNoBody error = &Error{CodeNoBody, "no body"}
	// ErrInvalidType: a message or presence type is not one of App Engine's.
	ErrInvalidType error = &Error{CodeInvalidType, "invalid type"}
	// ErrInvalidShow: a presence state is not one of RFC 6121 section 4.7.2.1.
	ErrInvalidShow error = &Error{CodeInvalidShow, "invalid show"}
	// ErrInvalidStatus: a presence status is longer than 1024 characters.
	ErrInvalidStatus error = &Error{CodeInvalidStatus, "invalid status"}
	// ErrTooLarge: a body or stanza is over its size limit.
	ErrTooLarge error = &Error{CodeTooLarge, "too large"}
	// ErrRequestTooLarge: the arguments of one call are over 1 MiB in all.
	ErrRequestTooLarge error = &Error{CodeRequestTooLarge, "request too large"}
	// ErrOverQuota: a quota of today is used up. Try tomorrow (UTC), or raise it.
	ErrOverQuota error = &Error{CodeOverQuota, "over quota"}
	// ErrInvalidSender: the sender is not an address of this app.
	ErrInvalidSender error = &Error{CodeInvalidSender, "invalid sender"}
	// ErrNotConnected: no stream to the server is up, or no client is open. Try later.
	ErrNotConnected error = &Error{CodeNotConnected, "not connected"}
	// ErrBusy: a bounded queue is full. Try later.
	ErrBusy error = &Error{CodeBusy, "busy"}
	// ErrTimeout: nothing came in the time allowed.
	ErrTimeout error = &Error{CodeTimeout, "timeout"}
	// ErrConfig: a setting is missing, malformed or contradictory.
	ErrConfig error = &Error{CodeConfig, "wrong configuration"}
	// ErrNotAuthorized: the server refused the credentials.
	ErrNotAuthorized error = &Error{CodeNotAuthorized, "not authorized"}
	// ErrClosed: the client was closed.
	ErrClosed error = &Error{CodeClosed, "closed"}

	// ErrPresenceUnavailable: a contact is not available, or is unknown.
	ErrPresenceUnavailable = errors.New("xmpp: presence unavailable")
)

// MultiError holds one error for each recipient of a call, in their order; nil for those where
// nothing went wrong.
type MultiError []error

// Error is the first error's text, and how many others there are.
func (m MultiError) Error() string {
	failures := m.Unwrap()
	switch len(failures) {
	case 0:
		return "xmpp: no error"
	case 1:
		return failures[0].Error()
	case 2:
		return failures[0].Error() + " (and 1 other error)"
	}
	return fmt.Sprintf("%s (and %d other errors)", failures[0], len(failures)-1)
}

// Unwrap gives the errors that are not nil to errors.Is and errors.As.
func (m MultiError) Unwrap() []error {
	var failures []error
	for _, err := range m {
		if err != nil {
			failures = append(failures, err)
		}
	}
	return failures
}

// StatusError is why a message was not sent to one recipient.
type StatusError int

const (
	// StatusInvalidJID: the recipient is not an address.
	StatusInvalidJID StatusError = 1
	// StatusOtherError: the message could not be sent.
	StatusOtherError StatusError = 2
)

// Error is App Engine's name of the status.
func (s StatusError) Error() string {
	switch s {
	case StatusInvalidJID:
		return "INVALID_JID"
	case StatusOtherError:
		return "OTHER_ERROR"
	}
	return fmt.Sprintf("status %d", int(s))
}

// Is reports whether target is ErrInvalidJID and s says so.
func (s StatusError) Is(target error) bool {
	return s == StatusInvalidJID && target == ErrInvalidJID
}

// statusErrors is nil if all statuses are 0, otherwise a MultiError.
func statusErrors(statuses []int32) error {
	var failures MultiError
	for i, status := range statuses {
		if status == 0 {
			continue
		}
		if failures == nil {
			failures = make(MultiError, len(statuses))
		}
		failures[i] = StatusError(status)
	}
	if failures == nil {
		return nil
	}
	return failures
}
