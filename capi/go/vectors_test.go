package xmpp

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"appxmpp/capi/go/internal/peer"
)

// vectors reads a table that every language reads, and makes sure that it has as many cases as they
// see: one that shrinks is noticed.
func vectors[T any](t *testing.T, name string, least int) []T {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Cases []T }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Cases) < least {
		t.Fatalf("%s has %d cases", name, len(table.Cases))
	}
	return table.Cases
}

func TestVectorsJID(t *testing.T) {
	for _, one := range vectors[struct {
		JID, Why, Localpart, Domainpart, Resourcepart string
		Valid                                         bool
	}](t, "jid.json", 39) {
		parsed, err := ParseJID(one.JID)
		if (err == nil) != one.Valid || err != nil && !errors.Is(err, ErrInvalidJID) {
			t.Errorf("%.60q (%s): %v", one.JID, one.Why, err)
		}
		if want := (JID{one.Localpart, one.Domainpart, one.Resourcepart}); parsed != want {
			t.Errorf("%.60q (%s): %+v", one.JID, one.Why, parsed)
		}
		if again, err := ParseJID(parsed.String()); one.Valid && (err != nil || again != parsed) {
			t.Errorf("%s is not prepared: %+v", parsed, again)
		}
	}
}

// stanzaOf reads a stanza of a table as the peer reads those that are sent, but for its id.
func stanzaOf(t *testing.T, text string) peer.Stanza {
	t.Helper()
	var stanza peer.Stanza
	if err := xml.Unmarshal([]byte(text), &stanza); err != nil {
		t.Fatal(err)
	}
	return comparable(stanza)
}

func comparable(stanza peer.Stanza) peer.Stanza {
	stanza.XMLName.Space = ""
	stanza.ID = ""
	return stanza
}

type sendCase struct {
	Why, Call, Body, Error string
	JIDs                   []string
	From, Type             *string
	RawXML                 bool `json:"raw_xml"`
	Show, Status           string
	BodyTimes              int `json:"body_times"`
	StatusTimes            int `json:"status_times"`
	Statuses               []int32
	Stanzas                []string
}

func (c *sendCase) run(client *Client) error {
	ctx := context.Background()
	value := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	body, status := strings.Repeat(c.Body, max(c.BodyTimes, 1)), strings.Repeat(c.Status, max(c.StatusTimes, 1))
	first := ""
	if len(c.JIDs) > 0 {
		first = c.JIDs[0]
	}
	switch c.Call {
	case "send_message":
		return client.Send(ctx, &Message{value(c.From), c.JIDs, body, value(c.Type), c.RawXML})
	case "send_presence":
		return client.SendPresence(ctx, &Presence{value(c.From), first, value(c.Type), c.Show, status})
	case "send_invite":
		return client.Invite(ctx, first, value(c.From))
	}
	return errors.New("no such call: " + c.Call)
}

func TestVectorsSend(t *testing.T) {
	client, server := connected(t, &Handlers{})
	ran := 0
	for _, one := range vectors[sendCase](t, "send.json", 81) {
		if one.Call == "send_message" && one.Type != nil && *one.Type == "" {
			continue // In Go, as on App Engine, the empty type of a message is chat.
		}
		ran++
		err := one.run(client)
		if one.Error != "" {
			var failure *Error
			name := ""
			if errors.As(err, &failure) {
				name = strings.ReplaceAll(failure.Code().String(), "_", "")
			}
			if !strings.EqualFold(name, one.Error) {
				t.Errorf("%s: %v", one.Why, err)
			}
			continue
		}
		var multi MultiError
		if err != nil && !errors.As(err, &multi) {
			t.Errorf("%s: %v", one.Why, err)
			continue
		}
		for i, status := range one.Statuses {
			var got StatusError
			if multi != nil && multi[i] != nil {
				errors.As(multi[i], &got)
			}
			if int32(got) != status {
				t.Errorf("%s: recipient %d has %v instead of %d", one.Why, i, got, status)
			}
		}
		for i := 0; one.Stanzas == nil && i < len(one.JIDs); i++ {
			if one.Statuses == nil || one.Statuses[i] == 0 {
				next(t, server, "message", "presence")
			}
		}
		for _, text := range one.Stanzas {
			want := stanzaOf(t, text)
			if got := comparable(next(t, server, "message", "presence")); got != want {
				t.Errorf("%s:\n got %+v\nwant %+v", one.Why, got, want)
			}
		}
	}
	if ran < 75 {
		t.Errorf("only %d cases were run", ran)
	}
}

// handledUpTo waits until the component has seen what was written before.
func handledUpTo(t *testing.T, server *peer.Server) {
	t.Helper()
	write(t, server, "<iq from='barrier.example' to='"+own+"' type='get' id='barrier'><ping xmlns='urn:xmpp:ping'/></iq>")
	for next(t, server, "iq").ID != "barrier" {
	}
}

func TestVectorsPresence(t *testing.T) {
	for _, one := range vectors[struct {
		Why   string
		Steps []string
		Ask   []struct {
			JID, From        string
			Available, Valid bool
			Show             *string
		}
	}](t, "presence.json", 19) {
		client, server := connected(t, &Handlers{})
		for _, step := range one.Steps {
			write(t, server, step)
		}
		handledUpTo(t, server)
		for _, ask := range one.Ask {
			states, err := client.GetPresenceMulti(context.Background(), []string{ask.JID}, ask.From)
			var want error
			show := ""
			switch {
			case !ask.Valid:
				want = ErrInvalidJID
			case !ask.Available || ask.Show == nil:
				want = ErrPresenceUnavailable
			default:
				show = *ask.Show
			}
			var multi MultiError
			if errors.As(err, &multi) {
				err = multi[0]
			}
			if err != want || len(states) != 1 || states[0] != show {
				t.Errorf("%s: %s: %q %v", one.Why, ask.JID, states, err)
			}
		}
		client.Close()
		server.Close()
	}
}

func TestVectorsRoute(t *testing.T) {
	for _, one := range vectors[struct {
		Why, Stanza, Path, Answer, Drop string
		StanzaField                     string `json:"stanza_field"`
		Fields                          [][2]string
		Inbound                         []string
		Bodiless                        bool `json:"bodiless_messages"`
		UTC                             int64
	}](t, "route.json", 57) {
		if one.UTC != 0 {
			continue // The library has its own clock.
		}
		server, err := peer.Listen("secret")
		if err != nil {
			t.Fatal(err)
		}
		handlers, deliveries := &Handlers{}, make(chan *Delivery, 9)
		handlers.Handle(func(ctx context.Context, _ *Message) { deliveries <- DeliveryFrom(ctx) })
		handlers.HandlePresence(func(ctx context.Context, _ *Presence) { deliveries <- DeliveryFrom(ctx) })
		handlers.HandleSubscription(func(ctx context.Context, _ *Presence) { deliveries <- DeliveryFrom(ctx) })
		handlers.HandleError(func(ctx context.Context, _ *Report) { deliveries <- DeliveryFrom(ctx) })
		client, err := Connect(within5(t), "component://"+domain+"@"+server.Addr(), Options{Secret: "secret",
			AppID: "shop", Handlers: handlers, InboundServices: one.Inbound, BodilessMessages: one.Bodiless})
		if err != nil {
			t.Fatal(err)
		}
		write(t, server, one.Stanza)
		if one.Path != "" {
			got := received(t, deliveries)
			last := len(got.Fields) - 1
			var fields [][2]string
			for _, field := range got.Fields[:last] {
				fields = append(fields, [2]string{field.Name, field.Value})
			}
			if got.Path != one.Path || !reflect.DeepEqual(fields, one.Fields) || got.Fields[last].Name != "stanza" {
				t.Errorf("%s: %+v", one.Why, got)
			}
			if one.StanzaField != "" && got.Stanza() != one.StanzaField {
				t.Errorf("%s: %s", one.Why, got.Stanza())
			}
		}
		if one.Answer != "" {
			if got, want := comparable(next(t, server, "iq", "message", "presence")), stanzaOf(t, one.Answer); got != want {
				t.Errorf("%s:\n got %+v\nwant %+v", one.Why, got, want)
			}
		}
		if one.Inbound == nil {
			// Whatever the stanza's sender caused would come before this.
			write(t, server, "<message from='"+user+"' to='"+own+"'><body>the end</body></message>")
			if got := received(t, deliveries); got.Field("body") != "the end" {
				t.Errorf("%s: unexpected %+v", one.Why, got)
			}
		}
		client.Close()
		server.Close()
		if len(deliveries) > 0 {
			t.Errorf("%s: unexpected %+v", one.Why, <-deliveries)
		}
	}
}
