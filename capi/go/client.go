package xmpp

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options of Connect; all may be left out.
type Options struct {
	// Secret is what the component shares with the server, for a backend whose text has none. Empty
	// means APPXMPP_SECRET, or the file that APPXMPP_SECRET_FILE names.
	Secret string
	// AppID is the localpart of the address that the app sends from; empty means the first label of
	// the component's domain.
	AppID string
	// Version is the version of the app that this is, unless it is the default one; the component is
	// then VERSION.latest.DOMAIN.
	Version string
	// Addresses is the form in which handlers see the app's own addresses: "domain" (or empty), as
	// they are, or "appengine", as APP_ID@appspot.com and anything@APP_ID.appspotchat.com.
	Addresses string
	// InboundServices says what is handed to the handlers: App Engine's xmpp_message,
	// xmpp_presence, xmpp_subscribe, xmpp_error. Nil means all.
	InboundServices []string
	// StateFile keeps subscriptions and presence over restarts; empty keeps them in memory.
	StateFile string
	// Durable keeps messages, presence and invitations in StateFile until the server has read them,
	// and events until they are done: a nil error means on disk.
	Durable bool
	// Quotas says how much may be used in a day of UTC: api_calls, data_sent_bytes,
	// recipients_messaged, invitations_sent. What is not named has no limit; a call over one fails
	// with ErrOverQuota.
	Quotas map[string]uint64
	// Keepalive is after how much silence the server is asked whether it is there; 0 means a minute,
	// less than 0 never.
	Keepalive time.Duration
	// BodilessMessages hands messages without a body (chat states, receipts) to the handlers too.
	BodilessMessages bool
	// Handlers are called with what arrives; nil means DefaultHandlers.
	Handlers *Handlers
	// Workers is how many senders' events are handled at the same time; 0 means 16.
	Workers int
	// SendTimeout bounds how long a call waits for the socket; 0 means 30 seconds.
	SendTimeout time.Duration
}

// closeTimeout is how long Close lets handlers and the server take.
const closeTimeout = 5 * time.Second

// transport is a way to the service.
type transport interface {
	waitReady(ctx context.Context) error
	sendMessage(ctx context.Context, m *Message) ([]int32, error)
	sendPresence(ctx context.Context, p *Presence) error
	invite(ctx context.Context, to, from string) error
	getPresence(ctx context.Context, to []string, from string) ([]presenceAnswer, error)
	// close ends it; what it holds is let go when nobody uses it any more.
	close(ctx context.Context)
}

// Client is one app on one backend. Make it with Connect, and Close it.
type Client struct {
	*core
	where string
}

// core is what a client and the contexts of its handlers share, so that a client that nobody holds
// any more is noticed although handlers run.
type core struct {
	transport transport
	mu        sync.RWMutex
	closed    bool
}

// Connect opens a client and waits until a stream is up, or ctx ends. A stream that breaks later is
// made anew.
//
// backend is component://DOMAIN[:SECRET]@HOST[:PORT], component+tls://... or component+unix://DOMAIN[:SECRET]@/path,
// for an ordinary account client://NAME[:PASSWORD]@DOMAIN, or a
// gateway as http://DOMAIN:SECRET@HOST:PORT; empty means APPXMPP_BACKEND. What arrives on a component
// is handed to the handlers; a gateway posts it to a Webhook.
//
// The first client that is open is the process's default.
func Connect(ctx context.Context, backend string, options Options) (*Client, error) {
	if backend == "" {
		backend = os.Getenv("APPXMPP_BACKEND")
	}
	if backend == "" {
		return nil, &Error{CodeConfig,
			"no backend was given and APPXMPP_BACKEND is not set; set it to component://DOMAIN@HOST"}
	}
	client := &Client{core: &core{}, where: caller()}
	var err error
	switch scheme, _, _ := strings.Cut(backend, ":"); scheme {
	case "http", "https":
		client.transport, err = openGateway(backend, options)
	default:
		client.transport, err = openNative(client.core, backend, options)
	}
	if err != nil {
		return nil, err
	}
	if err := client.transport.waitReady(ctx); err != nil {
		client.transport.close(ended())
		return nil, err
	}
	runtime.SetFinalizer(client, reportLeak)
	defaultClient.offer(client)
	return client, nil
}

// Stats returns the numbers about the client by their names: stanzas, contacts and deliveries, what was
// used today (today_...) of what has a quota (quota_...), what waits to be sent (outbox_...). A client of
// a gateway has none: ask the gateway.
func (c *Client) Stats() (map[string]uint64, error) {
	if err := c.ready(context.Background()); err != nil {
		return nil, err
	}
	native, ok := c.transport.(*native)
	if !ok {
		return nil, nil
	}
	return native.stats()
}

// Close ends the client: handlers under way are waited for, contacts are told, the stream is
// closed; all of it in a few seconds. A second call does nothing.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return c.Shutdown(ctx)
}

// Shutdown is Close with a deadline of the caller's: what is not done when ctx ends is left.
func (c *Client) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if first {
		runtime.SetFinalizer(c, nil)
		defaultClient.withdraw(c)
		c.transport.close(ctx)
	}
	return nil
}

var errClosed error = &Error{CodeClosed, "the client was closed by this program; connect another"}

func (c *Client) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return errClosed
	}
	return nil
}

// Send is Message.Send by this client.
func (c *Client) Send(ctx context.Context, m *Message) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	statuses, err := c.transport.sendMessage(ctx, m)
	if err != nil {
		return err
	}
	return statusErrors(statuses)
}

// SendPresence is Presence.Send by this client.
func (c *Client) SendPresence(ctx context.Context, p *Presence) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.transport.sendPresence(ctx, p)
}

// Invite is the function Invite by this client.
func (c *Client) Invite(ctx context.Context, to, from string) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.transport.invite(ctx, to, from)
}

// GetPresence is the function GetPresence by this client.
func (c *Client) GetPresence(ctx context.Context, to, from string) (string, error) {
	if err := c.ready(ctx); err != nil {
		return "", err
	}
	answers, err := c.transport.getPresence(ctx, []string{to}, from)
	if err != nil {
		return "", err
	}
	return answers[0].state()
}

// GetPresenceMulti is the function GetPresenceMulti by this client.
func (c *Client) GetPresenceMulti(ctx context.Context, to []string, from string) ([]string, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	answers, err := c.transport.getPresence(ctx, to, from)
	if err != nil {
		return nil, err
	}
	return presenceStates(answers)
}

// defaultClient is the process's.
var defaultClient holder

type holder struct {
	mu     sync.RWMutex
	client *Client
}

func (h *holder) get() *Client {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.client
}

func (h *holder) offer(client *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == nil {
		h.client = client
	}
}

func (h *holder) withdraw(client *Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil && h.client.core == client.core {
		h.client = nil
	}
}

type clientKey struct{}

// WithClient gives a context whose functions use client instead of the default.
func WithClient(ctx context.Context, client *Client) context.Context {
	return context.WithValue(ctx, clientKey{}, client)
}

func clientFor(ctx context.Context) (*Client, error) {
	if client, ok := ctx.Value(clientKey{}).(*Client); ok && client != nil {
		return client, nil
	}
	if client := defaultClient.get(); client != nil {
		return client, nil
	}
	return nil, &Error{CodeNotConnected, "no client is open in this process; call Connect first"}
}

// reportLeak only tells: closing takes time, and belongs to the program.
func reportLeak(client *Client) {
	slog.Warn("xmpp: a client was not closed", "connected_at", client.where)
}

// caller is the file and line that called Connect.
func caller() string {
	_, file, line, _ := runtime.Caller(2)
	return file + ":" + strconv.Itoa(line)
}

// ended is a context without any time left.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
