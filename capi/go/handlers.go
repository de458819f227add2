package xmpp

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
)

// The paths of App Engine's posts.
const (
	pathChat         = "/_ah/xmpp/message/chat/"
	pathPresence     = "/_ah/xmpp/presence/"
	pathSubscription = "/_ah/xmpp/subscription/"
	pathError        = "/_ah/xmpp/error/"
	pathMessageError = "/_ah/xmpp/message/error/"
)

// Field is a named value of a delivery.
type Field struct {
	Name, Value string
}

// Delivery is something that arrived, as App Engine would have posted it.
type Delivery struct {
	// Path is where App Engine would have posted it, such as /_ah/xmpp/message/chat/.
	Path string
	// Fields is the form, in App Engine's order: from, to, body or show and status, stanza.
	Fields []Field
}

// Field gives the value called name; empty if there is none.
func (d *Delivery) Field(name string) string {
	for _, field := range d.Fields {
		if field.Name == name {
			return field.Value
		}
	}
	return ""
}

// Stanza is what was sent, as XML that can be parsed alone.
func (d *Delivery) Stanza() string {
	return d.Field("stanza")
}

// Report is an error that came back from a server or contact: a stanza of type error.
type Report struct {
	// Sender is who reports it.
	Sender string
	// To is the address of the app that it is for; not always known.
	To string
	// Stanza is the XML, which has the error element (RFC 6120 section 8.3).
	Stanza string
}

// Handlers has the functions that are called with what arrives. The zero value has none.
type Handlers struct {
	mu           sync.RWMutex
	message      func(context.Context, *Message)
	presence     func(context.Context, *Presence)
	subscription func(context.Context, *Presence)
	report       func(context.Context, *Report)
}

// DefaultHandlers is what Handle and its like add to, and what clients and webhooks without
// handlers of their own use.
var DefaultHandlers = &Handlers{}

// Handle is the function Handle, for these handlers.
func (h *Handlers) Handle(f func(ctx context.Context, m *Message)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.message = f
}

// HandlePresence is the function HandlePresence, for these handlers.
func (h *Handlers) HandlePresence(f func(ctx context.Context, p *Presence)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.presence = f
}

// HandleSubscription is the function HandleSubscription, for these handlers.
func (h *Handlers) HandleSubscription(f func(ctx context.Context, p *Presence)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subscription = f
}

// HandleError is the function HandleError, for these handlers.
func (h *Handlers) HandleError(f func(ctx context.Context, r *Report)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report = f
}

// HandleError has f called with each error that comes back from a server or contact.
func HandleError(f func(ctx context.Context, r *Report)) {
	DefaultHandlers.HandleError(f)
}

// outcome is what became of a delivery, as an HTTP status.
type outcome int

const (
	handled   outcome = 200
	unhandled outcome = 404
	failed    outcome = 500
	// unfinished is a delivery that another request has handled for longer than this one waits.
	unfinished outcome = 503
)

// serve calls the handler of d. A handler that panics is logged.
func (h *Handlers) serve(ctx context.Context, d *Delivery) (result outcome) {
	call := h.find(d)
	if call == nil {
		return unhandled
	}
	defer func() {
		if fault := recover(); fault != nil {
			slog.ErrorContext(ctx, "xmpp: a handler panicked", "path", d.Path,
				"panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
			result = failed
		}
	}()
	call(context.WithValue(ctx, deliveryKey{}, d))
	return handled
}

// find gives the call of the handler for d; nil if nobody asked for such.
func (h *Handlers) find(d *Delivery) func(context.Context) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case d.Path == pathChat && h.message != nil:
		f, m := h.message, &Message{Sender: d.Field("from"), To: []string{d.Field("to")}, Body: d.Field("body")}
		return func(ctx context.Context) { f(ctx, m) }
	case (d.Path == pathError || d.Path == pathMessageError) && h.report != nil:
		f, r := h.report, &Report{Sender: d.Field("from"), To: d.Field("to"), Stanza: d.Stanza()}
		return func(ctx context.Context) { f(ctx, r) }
	}
	if kind, ok := within(d.Path, pathPresence, "available", "unavailable", "probe"); ok && h.presence != nil {
		f, p := h.presence, d.presence(strings.TrimPrefix(kind, "available"))
		return func(ctx context.Context) { f(ctx, p) }
	}
	if kind, ok := within(d.Path, pathSubscription,
		"subscribe", "subscribed", "unsubscribe", "unsubscribed"); ok && h.subscription != nil {
		f, p := h.subscription, d.presence(kind)
		return func(ctx context.Context) { f(ctx, p) }
	}
	return nil
}

func (d *Delivery) presence(kind string) *Presence {
	return &Presence{
		Sender: d.Field("from"), To: d.Field("to"), Type: kind, State: d.Field("show"), Status: d.Field("status"),
	}
}

// within gives the last part of path if it stands below folder and is one of kinds.
func within(path, folder string, kinds ...string) (string, bool) {
	for _, kind := range kinds {
		if path == folder+kind+"/" {
			return kind, true
		}
	}
	return "", false
}

type deliveryKey struct{}

// DeliveryFrom gives the delivery that a handler was called for; nil in any other context.
func DeliveryFrom(ctx context.Context) *Delivery {
	delivery, _ := ctx.Value(deliveryKey{}).(*Delivery)
	return delivery
}
