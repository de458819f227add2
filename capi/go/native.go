package xmpp

/*
#cgo pkg-config: appxmpp
#include <appxmpp.h>
#include <stdlib.h>
#include <string.h>

bool appxmppGoOn(uintptr_t asked);

static bool go_on(void *asked)
{
	return appxmppGoOn((uintptr_t)asked);
}

// A context that can be cancelled is asked about by its number; 0 is one that cannot.
static appxmpp_result send_to(const appxmpp_connection *connection, const char *const *jids, const size_t *jid_lens,
	size_t count, const char *body, size_t body_len, const char *from, size_t from_len, const char *type,
	size_t type_len, bool raw_xml, uintptr_t asked, int32_t *statuses, appxmpp_error **error)
{
	return appxmpp_send_message_checked(connection, jids, jid_lens, count, body, body_len, from, from_len, type,
		type_len, raw_xml, asked ? go_on : NULL, (void *)asked, statuses, error);
}

// One recipient needs no array in Go's memory, which could not be handed over.
static appxmpp_result send_to_one(const appxmpp_connection *connection, const char *jid, size_t jid_len,
	const char *body, size_t body_len, const char *from, size_t from_len, const char *type, size_t type_len,
	bool raw_xml, uintptr_t asked, int32_t *status, appxmpp_error **error)
{
	return send_to(connection, &jid, &jid_len, 1, body, body_len, from, from_len, type, type_len, raw_xml, asked,
		status, error);
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"
	"unsafe"
)

const defaultWorkers = 16

// native is a connection of this process.
type native struct {
	// mu is held by each call; whoever gets it alone may free the handle.
	mu     sync.RWMutex
	handle *C.appxmpp_connection

	core     *core
	handlers *Handlers
	// turns bounds the handlers that run; work counts them, and the pump.
	turns chan struct{}
	work  sync.WaitGroup
	stop  context.CancelFunc
	base  context.Context
}

func openNative(core *core, backend string, options Options) (*native, error) {
	if !C.appxmpp_version_check(versionMajor, versionMinor, versionPatch) {
		return nil, &Error{CodeConfig, fmt.Sprintf("the loaded libappxmpp is version %s, this package is for %d.%d.%d; "+
			"install the library that it was built with", C.GoString(C.appxmpp_version()),
			versionMajor, versionMinor, versionPatch)}
	}
	settings, err := newSettings(options)
	if err != nil {
		return nil, err
	}
	defer C.appxmpp_options_free(settings)
	n := &native{core: core, handlers: options.Handlers}
	if n.handlers == nil {
		n.handlers = DefaultHandlers
	}
	workers := options.Workers
	if workers <= 0 {
		workers = defaultWorkers
	}
	n.turns = make(chan struct{}, workers)
	n.base, n.stop = context.WithCancel(context.Background())
	n.base = WithClient(n.base, &Client{core: core})
	var failure *C.appxmpp_error
	result := C.appxmpp_connection_open(text(backend), size(backend), settings, &n.handle, &failure)
	return n, taken(result, failure)
}

func newSettings(options Options) (*C.appxmpp_options, error) {
	var settings *C.appxmpp_options
	var failure *C.appxmpp_error
	if err := taken(C.appxmpp_options_new(&settings, &failure), failure); err != nil {
		return nil, err
	}
	err := errors.Join(
		set(options.Secret, func(value string, failure **C.appxmpp_error) C.appxmpp_result {
			return C.appxmpp_options_set_secret(settings, text(value), size(value), failure)
		}),
		set(options.AppID, func(value string, failure **C.appxmpp_error) C.appxmpp_result {
			return C.appxmpp_options_set_app_id(settings, text(value), size(value), failure)
		}),
		set(options.Version, func(value string, failure **C.appxmpp_error) C.appxmpp_result {
			return C.appxmpp_options_set_version(settings, text(value), size(value), failure)
		}),
		set(options.Addresses, func(value string, failure **C.appxmpp_error) C.appxmpp_result {
			return C.appxmpp_options_set_addresses(settings, text(value), size(value), failure)
		}),
		set(options.StateFile, func(value string, failure **C.appxmpp_error) C.appxmpp_result {
			return C.appxmpp_options_set_state_file(settings, text(value), size(value), failure)
		}),
	)
	if options.SendTimeout > 0 {
		C.appxmpp_options_set_send_timeout(settings, milliseconds(options.SendTimeout), nil)
	}
	if options.Keepalive != 0 {
		C.appxmpp_options_set_keepalive(settings, milliseconds(max(options.Keepalive, 0)), nil)
	}
	C.appxmpp_options_set_durable(settings, C.bool(options.Durable), nil)
	for name, limit := range options.Quotas {
		var failure *C.appxmpp_error
		result := C.appxmpp_options_set_quota(settings, text(name), size(name), C.uint64_t(limit), &failure)
		err = errors.Join(err, taken(result, failure))
	}
	C.appxmpp_options_set_bodiless_messages(settings, C.bool(options.BodilessMessages), nil)
	if err == nil && options.InboundServices != nil {
		names := newTexts(options.InboundServices)
		defer names.free()
		var failure *C.appxmpp_error
		err = taken(C.appxmpp_options_set_inbound_services(settings, names.data, names.lens, names.count, &failure), failure)
	}
	if err != nil {
		C.appxmpp_options_free(settings)
		return nil, err
	}
	return settings, nil
}

func (n *native) stats() (map[string]uint64, error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.mu.RUnlock()
	numbers := map[string]uint64{}
	for index := C.size_t(0); ; index++ {
		name := C.appxmpp_stat_name(index)
		if name.len == 0 {
			return numbers, nil
		}
		var value C.uint64_t
		var failure *C.appxmpp_error
		if err := taken(C.appxmpp_connection_stat(n.handle, name.data, name.len, &value, &failure), failure); err != nil {
			return nil, err
		}
		if value != C.APPXMPP_NO_NUMBER {
			numbers[C.GoStringN(name.data, C.int(name.len))] = uint64(value)
		}
	}
}

func set(value string, call func(string, **C.appxmpp_error) C.appxmpp_result) error {
	if value == "" {
		return nil
	}
	var failure *C.appxmpp_error
	return taken(call(value, &failure), failure)
}

// waitReady waits for the stream, then begins to hand out what arrives.
func (n *native) waitReady(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		n.mu.RLock()
		defer n.mu.RUnlock()
		C.appxmpp_connection_interrupt(n.handle)
	})
	defer stop()
	var failure *C.appxmpp_error
	err := taken(C.appxmpp_connection_wait_ready(n.handle, C.UINT64_MAX, &failure), failure)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("xmpp: no stream to the server was up in time: %w", ctx.Err())
		}
		return err
	}
	n.work.Add(1)
	go n.pump()
	return nil
}

// enter begins a call, which ends with n.mu.RUnlock.
func (n *native) enter() error {
	n.mu.RLock()
	if n.handle == nil {
		n.mu.RUnlock()
		return errClosed
	}
	return nil
}

func (n *native) sendMessage(ctx context.Context, m *Message) ([]int32, error) {
	statuses, err := n.send(ctx, m)
	if err != nil || ctx.Done() == nil || ctx.Err() == nil {
		return statuses, err
	}
	for _, status := range statuses {
		if status == statusOtherError {
			return nil, fmt.Errorf("xmpp: the message may still be sent: %w", ctx.Err())
		}
	}
	return statuses, nil
}

func (n *native) send(ctx context.Context, m *Message) ([]int32, error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.mu.RUnlock()
	// A handler's own context ends with the connection, and so does the call: nothing to ask about.
	asked := uintptr(0)
	if done := ctx.Done(); done != nil && done != n.base.Done() {
		asked = asking.add(ctx)
		defer asking.remove(asked)
	}
	var failure *C.appxmpp_error
	if len(m.To) == 1 {
		var status [1]int32
		result := C.send_to_one(n.handle, text(m.To[0]), size(m.To[0]), text(m.Body), size(m.Body),
			optional(m.Sender), size(m.Sender), optional(m.Type), size(m.Type), C.bool(m.RawXML),
			C.uintptr_t(asked), (*C.int32_t)(&status[0]), &failure)
		return status[:], taken(result, failure)
	}
	to := newTexts(m.To)
	defer to.free()
	statuses := make([]int32, len(m.To)+1)
	result := C.send_to(n.handle, to.data, to.lens, to.count, text(m.Body), size(m.Body),
		optional(m.Sender), size(m.Sender), optional(m.Type), size(m.Type), C.bool(m.RawXML),
		C.uintptr_t(asked), (*C.int32_t)(&statuses[0]), &failure)
	return statuses[:len(m.To)], taken(result, failure)
}

// sendPresence does not wait for the socket, nor does invite: what it does not take now stands in line.
func (n *native) sendPresence(_ context.Context, p *Presence) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.mu.RUnlock()
	var failure *C.appxmpp_error
	// What cannot be sent now is told when a stream is up.
	result := C.appxmpp_send_presence(n.handle, text(p.To), size(p.To), optional(p.Type), size(p.Type),
		optional(p.State), size(p.State), optional(p.Status), size(p.Status), optional(p.Sender), size(p.Sender),
		nil, &failure)
	return taken(result, failure)
}

func (n *native) invite(_ context.Context, to, from string) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.mu.RUnlock()
	var status C.int32_t
	var failure *C.appxmpp_error
	result := C.appxmpp_send_invite(n.handle, text(to), size(to), optional(from), size(from), &status, &failure)
	if err := taken(result, failure); err != nil {
		return err
	}
	if status != statusNoError {
		return &Error{CodeNotConnected, "no stream is up, so nobody was asked; ask again later"}
	}
	return nil
}

func (n *native) getPresence(_ context.Context, to []string, from string) ([]presenceAnswer, error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.mu.RUnlock()
	contacts := newTexts(to)
	defer contacts.free()
	found := make([]C.appxmpp_presence, len(to)+1)
	var failure *C.appxmpp_error
	result := C.appxmpp_get_presence_list(n.handle, contacts.data, contacts.lens, contacts.count,
		optional(from), size(from), &found[0], &failure)
	if err := taken(result, failure); err != nil {
		return nil, err
	}
	answers := make([]presenceAnswer, len(to))
	for i := range answers {
		answers[i] = presenceAnswer{bool(found[i].available), int32(found[i].show), bool(found[i].valid)}
	}
	return answers, nil
}

// pump takes events until the connection is closed. The library holds back a sender's next event
// until the one before is done, so that each can have a goroutine.
func (n *native) pump() {
	defer n.work.Done()
	for {
		n.turns <- struct{}{}
		var event *C.appxmpp_event
		var failure *C.appxmpp_error
		err := taken(C.appxmpp_connection_next_event(n.handle, C.UINT64_MAX, &event, &failure), failure)
		if errors.Is(err, errInterrupted) {
			<-n.turns
			continue
		}
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				slog.Error("xmpp: nothing more is received", "error", err)
			}
			return
		}
		n.work.Add(1)
		go n.serve(event)
	}
}

var errInterrupted error = &Error{CodeInterrupted, "interrupted"}

func (n *native) serve(event *C.appxmpp_event) {
	defer n.work.Done()
	defer func() { <-n.turns }()
	// Freed without being done, as when a handler ends its goroutine, it counts as failed.
	defer C.appxmpp_event_free(event)
	result := n.handlers.serve(n.base, copied(event))
	C.appxmpp_event_done(event, C.bool(result == handled), nil)
}

// copied is an event in Go's memory.
func copied(event *C.appxmpp_event) *Delivery {
	count := C.appxmpp_event_field_count(event)
	delivery := &Delivery{Path: lent(C.appxmpp_event_path(event)), Fields: make([]Field, count)}
	for i := range delivery.Fields {
		delivery.Fields[i] = Field{
			Name:  lent(C.appxmpp_event_field_name(event, C.size_t(i))),
			Value: lent(C.appxmpp_event_field_value(event, C.size_t(i))),
		}
	}
	return delivery
}

// close closes the connection, waits for handlers until ctx ends, and frees the handle once no call
// uses it.
func (n *native) close(ctx context.Context) {
	var left time.Duration
	if deadline, limited := ctx.Deadline(); limited {
		left = time.Until(deadline)
	} else if ctx.Err() == nil {
		left = closeTimeout
	}
	C.appxmpp_connection_close(n.handle, milliseconds(max(left, 0)), nil)
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		n.work.Wait()
		n.stop()
		n.mu.Lock()
		defer n.mu.Unlock()
		C.appxmpp_connection_free(n.handle)
		n.handle = nil
	}()
	select {
	case <-freed:
	case <-ctx.Done():
		n.stop()
	}
}

// milliseconds rounds up: 0 has a meaning of its own.
func milliseconds(d time.Duration) C.uint64_t {
	whole := d.Milliseconds()
	if d > time.Duration(whole)*time.Millisecond {
		whole++
	}
	return C.uint64_t(min(whole, math.MaxInt32))
}

// taken is the error of a call, whose object is freed.
func taken(result C.appxmpp_result, failure *C.appxmpp_error) error {
	if result == C.APPXMPP_OK {
		return nil
	}
	defer freeError(failure)
	return &Error{Code(result), lent(C.appxmpp_error_text(failure))}
}

// cError names the type for the tests, where cgo cannot be used.
type cError = *C.appxmpp_error

// freeError is a variable for the tests, which count.
var freeError = func(failure cError) { C.appxmpp_error_free(failure) }

// lent copies a string that the library lends.
func lent(borrowed C.appxmpp_str) string {
	return C.GoStringN(borrowed.data, C.int(borrowed.len))
}

var nothing = [1]C.char{}

// text is a string as a pointer that is not NULL; its length goes beside it.
func text(s string) *C.char {
	if s == "" {
		return &nothing[0]
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

// optional is text, or NULL if s is empty.
func optional(s string) *C.char {
	if s == "" {
		return nil
	}
	return text(s)
}

func size(s string) C.size_t {
	return C.size_t(len(s))
}

// texts is an array of strings in C's memory.
type texts struct {
	data  **C.char
	lens  *C.size_t
	count C.size_t
}

// newTexts copies list: pointers, lengths and bytes, in one piece of memory.
func newTexts(list []string) texts {
	const word = unsafe.Sizeof(C.size_t(0))
	bytes := 2 * uintptr(len(list)) * word
	for _, one := range list {
		bytes += uintptr(len(one))
	}
	memory := C.malloc(C.size_t(bytes + 1))
	count := len(list)
	data := unsafe.Slice((**C.char)(memory), count)
	lens := unsafe.Slice((*C.size_t)(unsafe.Add(memory, uintptr(count)*word)), count)
	at := unsafe.Add(memory, 2*uintptr(count)*word)
	for i, one := range list {
		copy(unsafe.Slice((*byte)(at), len(one)), one)
		data[i], lens[i] = (*C.char)(at), size(one)
		at = unsafe.Add(at, len(one))
	}
	return texts{(**C.char)(memory), (*C.size_t)(unsafe.Add(memory, uintptr(count)*word)), C.size_t(count)}
}

func (t texts) free() {
	C.free(unsafe.Pointer(t.data))
}
