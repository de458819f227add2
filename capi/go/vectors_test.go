package xmpp

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"appxmpp/capi/go/internal/peer"
)

// vectors runs f with each case of a table that every language reads, and says how many there were:
// `make test` compares that with the other languages.
func vectors[T any](t *testing.T, name string, f func(one T)) {
	t.Helper()
	text, err := os.ReadFile("../../tests/vectors/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Cases []T }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Cases) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	for _, one := range table.Cases {
		f(one)
	}
	t.Logf("vectors go %s %d", name, len(table.Cases))
}

func TestVectorsJID(t *testing.T) {
	type jidCase struct {
		JID, Why, Localpart, Domainpart, Resourcepart string
		Valid                                         bool
	}
	vectors(t, "jid", func(one jidCase) {
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
	})
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
	vectors(t, "send", func(one sendCase) {
		// In Go, as on App Engine, the empty type of a message is chat.
		untyped := one.Call == "send_message" && one.Type != nil && *one.Type == ""
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
			return
		}
		var multi MultiError
		if err != nil && !errors.As(err, &multi) {
			t.Errorf("%s: %v", one.Why, err)
			return
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
			if untyped {
				want.Type = "chat"
			}
			if got := comparable(next(t, server, "message", "presence")); got != want {
				t.Errorf("%s:\n got %+v\nwant %+v", one.Why, got, want)
			}
		}
	})
}

// handledUpTo waits until the component has seen what was written before.
func handledUpTo(t *testing.T, server *peer.Server) {
	t.Helper()
	write(t, server, "<iq from='barrier.example' to='"+own+"' type='get' id='barrier'><ping xmlns='urn:xmpp:ping'/></iq>")
	for next(t, server, "iq").ID != "barrier" {
	}
}

func TestVectorsPresence(t *testing.T) {
	type presenceCase struct {
		Why   string
		Steps []string
		Ask   []struct {
			JID, From        string
			Available, Valid bool
			Show             *string
		}
	}
	vectors(t, "presence", func(one presenceCase) {
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
	})
}

func TestVectorsRoute(t *testing.T) {
	type routeCase struct {
		Why, Stanza, Path, Answer, Drop string
		StanzaField                     string `json:"stanza_field"`
		Fields                          [][2]string
		Inbound                         []string
		Bodiless                        bool `json:"bodiless_messages"`
		UTC                             int64
	}
	vectors(t, "route", func(one routeCase) {
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
			got, want := comparable(next(t, server, "iq", "message", "presence")), stanzaOf(t, one.Answer)
			if one.UTC != 0 {
				// The library has a clock of its own: everything else is compared.
				got.Inner, want.Inner = clock.ReplaceAllString(got.Inner, ""), clock.ReplaceAllString(want.Inner, "")
			}
			if got != want {
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
	})
}

var clock = regexp.MustCompile(`[^<>]+</utc>`)

// subscriptions are the states as the table names them.
var subscriptions = map[string]Subscription{
	"none": SubscriptionNone, "none+out": SubscriptionNoneOut, "none+in": SubscriptionNoneIn,
	"none+out+in": SubscriptionNoneOutIn, "to": SubscriptionTo, "to+in": SubscriptionToIn,
	"from": SubscriptionFrom, "from+out": SubscriptionFromOut, "both": SubscriptionBoth,
}

func TestVectorsRoster(t *testing.T) {
	type rosterCase struct {
		State, Direction, Verb, Becomes string
		Passes                          bool
	}
	vectors(t, "roster", func(one rosterCase) {
		state, known := subscriptions[one.State]
		after := map[string]func(string) (Subscription, bool, error){"outbound": state.Sent, "inbound": state.Received}
		next, passes, err := after[one.Direction](one.Verb)
		if want, named := subscriptions[one.Becomes]; !known || !named || err != nil || next != want || passes != one.Passes {
			t.Errorf("%+v: %d %t %v", one, next, passes, err)
		}
	})
	if _, _, err := SubscriptionBoth.Sent("probe"); !errors.Is(err, ErrInvalidType) {
		t.Errorf("probe: %v", err)
	}
	if _, _, err := Subscription(9).Received("subscribe"); err == nil {
		t.Error("9 is no state")
	}
}

var blanks = strings.NewReplacer("\t", " ", "\r", " ", "\n", " ")

// element is one of a table, or what became of it.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

// TestVectorsXML has each text sent as what stands in an element of a message.
func TestVectorsXML(t *testing.T) {
	client, server := connected(t, &Handlers{})
	type xmlCase struct {
		XML, Hex, Why, Condition, Name string
		Text, NS                       *string
		Attributes                     map[string]string
		Content                        bool
	}
	vectors(t, "xml", func(one xmlCase) {
		input := []byte(one.XML)
		if one.Hex != "" {
			input, _ = hex.DecodeString(one.Hex)
		}
		err := client.Send(context.Background(), &Message{To: []string{"user@example.com"}, RawXML: true,
			Body: "<w xmlns=''>" + string(input) + "</w>"})
		if one.Condition != "" && !one.Content {
			var failure *Error
			if !errors.As(err, &failure) || failure.Code() != CodeInvalidXML && failure.Code() != CodeNotUTF8 {
				t.Errorf("%s: %v", one.Why, err)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", one.Why, err)
			return
		}
		var wrapper element
		sent := next(t, server, "message").Inner
		if err := xml.Unmarshal([]byte(sent), &wrapper); err != nil {
			t.Errorf("%s: %s: %v", one.Why, sent, err)
			return
		}
		if one.Condition != "" {
			return
		}
		if len(wrapper.Children) != 1 {
			t.Errorf("%s: %s", one.Why, sent)
			return
		}
		got := wrapper.Children[0]
		attributes := map[string]string{}
		for _, attribute := range got.Attrs {
			if attribute.Name.Space == "" {
				attributes[attribute.Name.Local] = attribute.Value
			}
		}
		for name, value := range one.Attributes {
			// Go's decoder leaves white space in a value as it is written.
			if blanks.Replace(attributes[name]) != blanks.Replace(value) {
				t.Errorf("%s: %s is %q", one.Why, name, attributes[name])
			}
		}
		if one.Name != "" && got.XMLName.Local != one.Name || one.NS != nil && got.XMLName.Space != *one.NS ||
			one.Text != nil && got.Text != *one.Text {
			t.Errorf("%s: %+v", one.Why, got)
		}
	})
}
