package xmpp

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"

	"appxmpp/capi/go/internal/peer"
)

func TestManyGoroutinesOneClient(t *testing.T) {
	handlers := &Handlers{}
	handlers.Handle(func(ctx context.Context, m *Message) {
		(&Message{Sender: m.To[0], To: []string{m.Sender}, Body: "re: " + m.Body}).Send(ctx)
	})
	client, server := connected(t, handlers)
	var group sync.WaitGroup
	for worker := 0; worker < 16; worker++ {
		worker := worker
		group.Add(1)
		go func() {
			defer group.Done()
			ctx := within5(t)
			for i := 0; i < 20; i++ {
				from := fmt.Sprintf("u%d@example.com/r", worker)
				errs := []error{
					client.Send(ctx, &Message{To: []string{from}, Body: fmt.Sprint(i)}),
					server.Write("<message from='" + from + "' to='" + own + "'><body>x</body></message>"),
				}
				if _, err := client.GetPresence(ctx, from, ""); err != ErrPresenceUnavailable {
					errs = append(errs, err)
				}
				if err := errors.Join(errs...); err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
			}
		}()
	}
	for i := 0; i < 16*20*2; i++ {
		next(t, server, "message")
	}
	group.Wait()
}

// Sixteen goroutines with one client, in an order that each seed decides, until one of them closes it.
func TestEveryCallInRandomOrderUntilOneCloses(t *testing.T) {
	for seed := int64(0); seed < 6; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { closedInRandomOrder(t, seed) })
	}
}

func closedInRandomOrder(t *testing.T, seed int64) {
	const workers, steps = 16, 120
	handlers := &Handlers{}
	handlers.Handle(func(ctx context.Context, m *Message) {
		(&Message{Sender: m.To[0], To: []string{m.Sender}, Body: m.Body}).Send(ctx)
	})
	client, server := connected(t, handlers)
	go func() {
		for range server.Stanzas {
		}
	}()
	var group sync.WaitGroup
	var done, refused atomic.Int64
	for worker := 0; worker < workers; worker++ {
		random := rand.New(rand.NewSource(seed*workers + int64(worker)))
		closesAt := -1
		if int64(worker) == seed%workers {
			closesAt = random.Intn(steps)
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for step := 0; step < steps; step++ {
				if step == closesAt {
					if err := client.Close(); err != nil {
						t.Error(err)
					}
				}
				switch err := anyCall(random, client, server); {
				case err == nil:
					done.Add(1)
				case errors.Is(err, ErrClosed):
					refused.Add(1)
				// What was being written when the stream ended.
				case !errors.Is(err, StatusOtherError) && !errors.Is(err, ErrNotConnected):
					t.Error(err)
				}
			}
		}()
	}
	group.Wait()
	for name, err := range everyCall(client) {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if done.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d calls went through and %d were refused", done.Load(), refused.Load())
	}
}

func anyCall(random *rand.Rand, client *Client, server *peer.Server) error {
	contact := fmt.Sprintf("u%d@example.com", random.Intn(4))
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if random.Intn(2) == 0 {
		ctx, cancel = context.WithTimeout(ctx, peer.Patience)
	}
	defer cancel()
	ctx = WithClient(ctx, client)
	switch random.Intn(7) {
	case 0:
		return (&Message{To: []string{contact}, Body: "x"}).Send(ctx)
	case 1:
		return (&Message{To: []string{contact, "other@example.com"}, Body: "x"}).Send(ctx)
	case 2:
		return (&Presence{To: contact, State: "dnd"}).Send(ctx)
	case 3:
		return Invite(ctx, contact, "")
	case 4:
		if _, err := GetPresence(ctx, contact, ""); err != ErrPresenceUnavailable {
			return err
		}
		return nil
	case 5:
		numbers, err := client.Stats()
		if err == nil && numbers["connects"] == 0 {
			return errors.New("the numbers are another client's")
		}
		return err
	}
	// The stream may be over.
	server.Write("<message from='" + contact + "/r' to='" + own + "'><body>x</body></message>")
	return nil
}

func everyCall(client *Client) map[string]error {
	ctx := WithClient(context.Background(), client)
	_, one := GetPresence(ctx, "a@example.com", "")
	_, many := GetPresenceMulti(ctx, []string{"a@example.com"}, "")
	_, stats := client.Stats()
	return map[string]error{
		"Message.Send":     (&Message{To: []string{"a@example.com"}, Body: "x"}).Send(ctx),
		"Presence.Send":    (&Presence{To: "a@example.com"}).Send(ctx),
		"Invite":           Invite(ctx, "a@example.com", ""),
		"GetPresence":      one,
		"GetPresenceMulti": many,
		"Stats":            stats,
	}
}
