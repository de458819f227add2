package xmpp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"appxmpp/capi/go/internal/peer"
)

const (
	domain = "bot.example.com"
	own    = "shop@bot.example.com"
	user   = "user@example.com/phone"
)

// connected is a client of the app shop, and its server.
func connected(t testing.TB, handlers *Handlers) (*Client, *peer.Server) {
	t.Helper()
	server, err := peer.Listen("secret")
	if err != nil {
		t.Fatal(err)
	}
	return connectedTo(t, server, handlers), server
}

func connectedTo(t testing.TB, server *peer.Server, handlers *Handlers) *Client {
	t.Helper()
	t.Cleanup(server.Close)
	client, err := Connect(within5(t), "component://"+domain+"@"+server.Addr(),
		Options{Secret: "secret", AppID: "shop", Handlers: handlers})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func within5(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Patience)
	t.Cleanup(cancel)
	return ctx
}

func next(t testing.TB, server *peer.Server, kinds ...string) peer.Stanza {
	t.Helper()
	stanza, err := server.Next(kinds...)
	if err != nil {
		t.Fatal(err)
	}
	return stanza
}

func write(t testing.TB, server *peer.Server, text string) {
	t.Helper()
	if err := server.Write(text); err != nil {
		t.Fatal(err)
	}
}

func received[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(peer.Patience):
		t.Fatal("the handler was not called")
		panic("unreachable")
	}
}

func TestAMessageIsSent(t *testing.T) {
	client, server := connected(t, &Handlers{})
	for name, ctx := range map[string]context.Context{"without end": context.Background(), "with an end": within5(t)} {
		message := &Message{To: []string{"user@example.com"}, Body: "a <b> & ☺"}
		if err := message.Send(WithClient(ctx, client)); err != nil {
			t.Fatal(name, err)
		}
		got := next(t, server, "message")
		if got.From != own+"/bot" || got.To != "user@example.com" || got.Type != "chat" || got.Body != "a <b> & ☺" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestEachRecipientHasAnErrorOfItsOwn(t *testing.T) {
	client, server := connected(t, &Handlers{})
	message := &Message{To: []string{"a@example.com", "not an address", "b@example.com"}, Body: "hi"}
	err := client.Send(context.Background(), message)
	var multi MultiError
	if !errors.As(err, &multi) || len(multi) != 3 || multi[0] != nil || multi[2] != nil {
		t.Fatalf("%#v", err)
	}
	if multi[1].Error() != "INVALID_JID" || !errors.Is(err, ErrInvalidJID) || errors.Is(err, ErrNoBody) {
		t.Errorf("%v", multi[1])
	}
	if first, second := next(t, server, "message"), next(t, server, "message"); first.To != "a@example.com" || second.To != "b@example.com" {
		t.Errorf("%v %v", first, second)
	}
}

func TestRefusedCallsSayWhy(t *testing.T) {
	client, _ := connected(t, &Handlers{})
	ctx := context.Background()
	to := []string{"user@example.com"}
	for _, one := range []struct {
		want error
		code Code
		err  error
	}{
		{ErrNoBody, CodeNoBody, client.Send(ctx, &Message{To: to})},
		{ErrInvalidJID, CodeInvalidJID, client.Send(ctx, &Message{Body: "x"})},
		{ErrInvalidType, CodeInvalidType, client.Send(ctx, &Message{To: to, Body: "x", Type: "CHAT"})},
		{ErrInvalidXML, CodeInvalidXML, client.Send(ctx, &Message{To: to, Body: "<b>", RawXML: true})},
		{ErrInvalidSender, CodeInvalidSender, client.Send(ctx, &Message{Sender: "x@elsewhere.example", To: to, Body: "x"})},
		{ErrTooLarge, CodeTooLarge, client.Send(ctx, &Message{To: to, Body: strings.Repeat("x", 200_000)})},
		{ErrInvalidShow, CodeInvalidShow, client.SendPresence(ctx, &Presence{To: to[0], State: "busy"})},
		{ErrInvalidJID, CodeInvalidJID, client.Invite(ctx, "@", "")},
	} {
		var failure *Error
		if !errors.Is(one.err, one.want) || !errors.As(one.err, &failure) || failure.Code() != one.code {
			t.Errorf("%v is not %v", one.err, one.want)
		} else if len(failure.Error()) < 20 || one.want.(*Error).Error() == failure.Error() {
			t.Errorf("%q says too little", failure)
		}
	}
}

func TestPresenceAndSubscriptions(t *testing.T) {
	handlers, presences, subscriptions := &Handlers{}, make(chan *Presence, 9), make(chan *Presence, 9)
	handlers.HandlePresence(func(_ context.Context, p *Presence) { presences <- p })
	handlers.HandleSubscription(func(_ context.Context, p *Presence) { subscriptions <- p })
	client, server := connected(t, handlers)
	ctx := WithClient(context.Background(), client)

	if _, err := GetPresence(ctx, "user@example.com", ""); err != ErrPresenceUnavailable {
		t.Errorf("unknown: %v", err)
	}
	write(t, server, "<presence from='"+user+"' to='"+own+"'><show>away</show><status>tea</status></presence>")
	if got := received(t, presences); *got != (Presence{user, own, "", "away", "tea"}) {
		t.Errorf("%+v", got)
	}
	if state, err := GetPresence(ctx, "user@example.com", ""); state != "away" || err != nil {
		t.Errorf("%q %v", state, err)
	}
	if _, err := GetPresence(ctx, "not an address", ""); err != ErrInvalidJID {
		t.Errorf("not an address: %v", err)
	}
	states, err := GetPresenceMulti(ctx, []string{"user@example.com", "not an address", "other@example.com"}, "")
	var multi MultiError
	if !errors.As(err, &multi) || len(multi) != 3 || len(states) != 3 {
		t.Fatalf("%v %v", states, err)
	}
	if states[0] != "away" || multi[0] != nil || multi[1] != ErrInvalidJID || multi[2] != ErrPresenceUnavailable {
		t.Errorf("%v %v", states, multi)
	}
	write(t, server, "<presence from='"+user+"' to='"+own+"' type='unavailable'/>")
	if got := received(t, presences); got.Type != "unavailable" {
		t.Errorf("%+v", got)
	}
	write(t, server, "<presence from='user@example.com' to='"+own+"' type='subscribe'/>")
	if got := received(t, subscriptions); got.Type != "subscribe" || got.Sender != "user@example.com" || got.To != own {
		t.Errorf("%+v", got)
	}
	if err := Invite(ctx, "friend@example.com", ""); err != nil {
		t.Fatal(err)
	}
	if err := (&Presence{To: "friend@example.com", State: "dnd", Status: "zzz"}).Send(ctx); err != nil {
		t.Fatal(err)
	}
	for invited, told := false, false; !invited || !told; {
		got := next(t, server, "presence")
		invited = invited || got.Type == "subscribe" && got.To == "friend@example.com"
		told = told || got.Show == "dnd" && got.Status == "zzz" && got.To == "friend@example.com"
	}
}

func TestMessagesAndErrorsReachTheirHandlers(t *testing.T) {
	handlers, reports := &Handlers{}, make(chan *Report, 1)
	handlers.Handle(func(ctx context.Context, m *Message) {
		stanza := DeliveryFrom(ctx).Stanza()
		reply := &Message{Sender: m.To[0], To: []string{m.Sender}, Body: m.Body + " " + fmt.Sprint(strings.Contains(stanza, "<cli:thread>"))}
		if err := reply.Send(ctx); err != nil {
			t.Error(err)
		}
	})
	handlers.HandleError(func(_ context.Context, r *Report) { reports <- r })
	_, server := connected(t, handlers)
	write(t, server, "<message from='"+user+"' to='"+own+"/x' type='chat'><body>hi</body><thread>1</thread></message>")
	if got := next(t, server, "message"); got.Body != "hi true" || got.From != own+"/x" || got.To != user {
		t.Errorf("%+v", got)
	}
	write(t, server, "<message from='"+user+"' to='"+own+"' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	if got := received(t, reports); got.Sender != user || !strings.Contains(got.Stanza, "gone") {
		t.Errorf("%+v", got)
	}
}

func TestAVersionSeesAndUsesTheAddressesItHadOnAppEngine(t *testing.T) {
	server, err := peer.Listen("secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	handlers := &Handlers{}
	handlers.Handle(func(ctx context.Context, m *Message) {
		(&Message{Sender: m.To[0], To: []string{m.Sender}, Body: "to " + m.To[0]}).Send(ctx)
	})
	open := func(component string, options Options) (*Client, error) {
		options.Secret, options.AppID, options.Handlers = "secret", "shop", handlers
		return Connect(within5(t), "component://"+component+"@"+server.Addr(), options)
	}
	beta := "beta.latest." + domain
	for _, wrong := range []Options{{Version: "old"}, {Version: "beta", Addresses: "gae"}} {
		if _, err := open(beta, wrong); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
	client, err := open(beta, Options{Version: "beta", Addresses: "appengine"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	write(t, server, "<message from='"+user+"' to='news@"+beta+"/x'><body>hi</body></message>")
	got := next(t, server, "message")
	if got.From != "news@"+beta+"/x" || got.Body != "to news@beta.latest.shop.appspotchat.com/x" {
		t.Errorf("%+v", got)
	}
	if err := client.Send(within5(t), &Message{Sender: own, To: []string{user}, Body: "hi"}); err != nil {
		t.Fatal(err)
	}
	if got := next(t, server, "message"); got.From != "shop@"+beta+"/bot" {
		t.Errorf("%+v", got)
	}
}

func TestAPanickingHandlerCostsItsOwnEventOnly(t *testing.T) {
	handlers, bodies := &Handlers{}, make(chan string, 2)
	handlers.Handle(func(_ context.Context, m *Message) {
		if m.Body == "bad" {
			panic("deliberate")
		}
		bodies <- m.Body
	})
	_, server := connected(t, handlers)
	for _, body := range []string{"bad", "good"} {
		write(t, server, "<message from='"+user+"' to='"+own+"'><body>"+body+"</body></message>")
	}
	if got := received(t, bodies); got != "good" {
		t.Error(got)
	}
}

func TestOneSendersMessagesComeInOrderOthersBeside(t *testing.T) {
	handlers, free, order := &Handlers{}, make(chan struct{}), make(chan string, 9)
	handlers.Handle(func(_ context.Context, m *Message) {
		if m.Body == "1" {
			<-free
		}
		order <- m.Body
	})
	_, server := connected(t, handlers)
	for _, body := range []string{"1", "2", "3"} {
		write(t, server, "<message from='"+user+"' to='"+own+"'><body>"+body+"</body></message>")
	}
	write(t, server, "<message from='other@example.com/x' to='"+own+"'><body>other</body></message>")
	if got := received(t, order); got != "other" {
		t.Error(got)
	}
	close(free)
	for _, want := range []string{"1", "2", "3"} {
		if got := received(t, order); got != want {
			t.Errorf("%s instead of %s", got, want)
		}
	}
}

func TestContextsCancel(t *testing.T) {
	client, _ := connected(t, &Handlers{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	message := &Message{To: []string{"user@example.com"}, Body: "x"}
	if err := client.Send(ctx, message); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	silent, err := peer.Listen("another secret")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = Connect(ctx, "component://"+domain+"@"+silent.Addr(), Options{Secret: "secret"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestASendThatBlocksEndsWithItsContext(t *testing.T) {
	client, server := stalled(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := client.Send(ctx, large); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	server.Close()
}

// What does not wait needs no context that ends; the send timeout, which is longer, plays no part.
func TestPresenceAndInvitationsDoNotWaitForTheSocket(t *testing.T) {
	client, _ := stalled(t)
	ctx := WithClient(context.Background(), client)
	over := make(chan error)
	go func() {
		over <- errors.Join((&Presence{To: "user@example.com", State: "dnd"}).Send(ctx), Invite(ctx, "user@example.com", ""))
	}()
	if err := received(t, over); err != nil && !errors.Is(err, ErrNotConnected) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range []error{(&Presence{To: "user@example.com"}).Send(ctx), Invite(ctx, "user@example.com", "")} {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

var large = &Message{To: []string{"user@example.com"}, Body: strings.Repeat("x", 90_000)}

// stalled is a client whose server reads nothing more; nothing more fits into the sockets.
func stalled(t *testing.T) (*Client, *peer.Server) {
	t.Helper()
	server, err := peer.ListenBuffered("secret", 1)
	if err != nil {
		t.Fatal(err)
	}
	client := connectedTo(t, server, &Handlers{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for err == nil {
		err = client.Send(ctx, large)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return client, server
}

func TestSettingsThatCannotWork(t *testing.T) {
	for _, one := range []struct {
		backend string
		options Options
	}{
		{"", Options{}}, {"smtp://x", Options{}}, {"component://", Options{}}, {"http://", Options{}},
		{"component://bot.example.com@127.0.0.1", Options{Secret: "s", InboundServices: []string{"xmpp_massage"}}},
	} {
		t.Setenv("APPXMPP_BACKEND", "")
		_, err := Connect(within5(t), one.backend, one.options)
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", one.backend, err)
		}
	}
}

func TestTimesAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]uint64{
		0: 0, 1: 1, time.Microsecond: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 1 << 62: math.MaxInt32,
	} {
		if got := uint64(milliseconds(d)); got != want {
			t.Errorf("%v: %d ms", d, got)
		}
	}
}

func TestAWrongSecretIsTold(t *testing.T) {
	server, err := peer.Listen("secret")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_, err = Connect(within5(t), "component://"+domain+"@"+server.Addr(), Options{Secret: "wrong-secret"})
	if !errors.Is(err, ErrNotAuthorized) || strings.Contains(err.Error(), "wrong-secret") {
		t.Error(err)
	}
}

func TestTheDefaultClientIsTheFirstOpenOne(t *testing.T) {
	message := &Message{To: []string{"user@example.com"}, Body: "x"}
	if err := message.Send(context.Background()); !errors.Is(err, ErrNotConnected) {
		t.Errorf("no client: %v", err)
	}
	client, server := connected(t, &Handlers{})
	other, otherServer := connected(t, &Handlers{})
	if err := message.Send(context.Background()); err != nil {
		t.Fatal(err)
	}
	next(t, server, "message")
	if err := message.Send(WithClient(context.Background(), other)); err != nil {
		t.Fatal(err)
	}
	next(t, otherServer, "message")
	client.Close()
	if err := client.Send(context.Background(), message); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// The library copies what it keeps: a text may change as soon as the call has returned.
func TestTextsInAreNotKept(t *testing.T) {
	client, server := connected(t, &Handlers{})
	bytes := []byte("first")
	message := &Message{To: []string{"a@example.com", "b@example.com"}, Body: unsafe.String(&bytes[0], len(bytes))}
	if err := client.Send(context.Background(), message); err != nil {
		t.Fatal(err)
	}
	copy(bytes, "XXXXX")
	for range message.To {
		if got := next(t, server, "message"); got.Body != "first" {
			t.Error(got.Body)
		}
	}
}

// With MALLOC_PERTURB_ set (tests/go/env does), memory that is used after it was freed is seen.
func TestTextsOutAreCopied(t *testing.T) {
	handlers, kept := &Handlers{}, make(chan *Delivery, 64)
	handlers.Handle(func(ctx context.Context, _ *Message) { kept <- DeliveryFrom(ctx) })
	client, server := connected(t, handlers)
	for i := 0; i < cap(kept); i++ {
		write(t, server, fmt.Sprintf("<message from='%s' to='%s'><body>%s</body></message>", user, own, strings.Repeat(fmt.Sprint(i%10), 3000)))
	}
	var deliveries []*Delivery
	for len(deliveries) < cap(kept) {
		deliveries = append(deliveries, received(t, kept))
	}
	client.Close()
	for i, delivery := range deliveries {
		if want := strings.Repeat(fmt.Sprint(i%10), 3000); delivery.Field("body") != want || !strings.Contains(delivery.Stanza(), want) {
			t.Fatalf("event %d has changed: %.60q", i, delivery.Field("body"))
		}
	}
}

func TestAnErrorObjectIsFreedOnce(t *testing.T) {
	client, _ := connected(t, &Handlers{})
	original := freeError
	var freed []string
	defer func() { freeError = original }()
	freeError = func(failure cError) {
		freed = append(freed, fmt.Sprint(failure))
		original(failure)
	}
	for i := 0; i < 3; i++ {
		if err := client.Invite(context.Background(), "@", ""); !strings.Contains(err.Error(), "@") {
			t.Error(err)
		}
	}
	if err := client.Send(context.Background(), &Message{To: []string{"a@example.com"}, Body: "x"}); err != nil {
		t.Error(err)
	}
	if len(freed) != 3 {
		t.Errorf("%d objects freed: %v", len(freed), freed)
	}
}

func TestAClientThatIsNotClosedIsReported(t *testing.T) {
	keep, _ := connected(t, &Handlers{}) // So that the other one is not the default.
	defer keep.Close()
	var log lockedBuffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	var forgotten *core
	func() {
		server, err := peer.Listen("secret")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		client, err := Connect(within5(t), "component://"+domain+"@"+server.Addr(), Options{Secret: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		forgotten = client.core
	}()
	for end := time.Now().Add(peer.Patience); !strings.Contains(log.String(), "client_test.go:") && time.Now().Before(end); {
		runtime.GC()
		runtime.Gosched()
	}
	if !strings.Contains(log.String(), "client_test.go:") {
		t.Errorf("no report: %q", log.String())
	}
	// It was only reported: the connection works.
	if err := (&Client{core: forgotten}).Send(context.Background(), &Message{To: []string{"a@example.com"}, Body: "x"}); err != nil {
		t.Error(err)
	}
	(&Client{core: forgotten}).Close()
}

type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func BenchmarkSend(b *testing.B) {
	client, server := connected(b, &Handlers{})
	go func() {
		for range server.Stanzas {
		}
	}()
	message := &Message{To: []string{"user@example.com"}, Body: "hello"}
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if err := client.Send(context.Background(), message); err != nil {
			b.Fatal(err)
		}
	}
}
