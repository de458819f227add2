package xmpp

import "context"

// Presence tells who is available, sent or received.
type Presence struct {
	// Sender is the address it comes from. Sending, empty means the app's own default.
	Sender string
	// To is the recipient.
	To string
	// Type is empty for available, or one of unavailable and probe.
	Type string
	// State is one of away, chat, dnd and xa, or empty (RFC 6121 section 4.7.2.1).
	State string
	// Status is a text for people, of at most 1024 characters.
	Status string
}

// Send sends the presence.
func (p *Presence) Send(ctx context.Context) error {
	client, err := clientFor(ctx)
	if err != nil {
		return err
	}
	return client.SendPresence(ctx, p)
}

// Invite asks to for a subscription to its presence. An empty from means the app's own default.
func Invite(ctx context.Context, to, from string) error {
	client, err := clientFor(ctx)
	if err != nil {
		return err
	}
	return client.Invite(ctx, to, from)
}

// GetPresence gives the state of a contact: empty, away, dnd, chat or xa.
//
// The error is ErrPresenceUnavailable if the contact is not available, or is not known, and ErrInvalidJID if to is
// no address.
func GetPresence(ctx context.Context, to, from string) (string, error) {
	client, err := clientFor(ctx)
	if err != nil {
		return "", err
	}
	return client.GetPresence(ctx, to, from)
}

// GetPresenceMulti gives the state of each contact of to, in their order.
//
// A MultiError has, for each contact, nil, ErrPresenceUnavailable or ErrInvalidJID.
func GetPresenceMulti(ctx context.Context, to []string, from string) ([]string, error) {
	client, err := clientFor(ctx)
	if err != nil {
		return nil, err
	}
	return client.GetPresenceMulti(ctx, to, from)
}

// HandlePresence has f called with each presence that arrives: Type is empty, unavailable or probe.
func HandlePresence(f func(ctx context.Context, p *Presence)) {
	DefaultHandlers.HandlePresence(f)
}

// HandleSubscription has f called when a contact asks for, grants, gives up or takes away a
// subscription: Type is subscribe, subscribed, unsubscribe or unsubscribed.
func HandleSubscription(f func(ctx context.Context, p *Presence)) {
	DefaultHandlers.HandleSubscription(f)
}

// presenceAnswer is what the service knows about one contact.
type presenceAnswer struct {
	available bool
	// show is one of App Engine's SHOW numbers, or negative if there is none.
	show  int32
	valid bool
}

// shows are App Engine's SHOW numbers, spelt as in the show element.
var shows = [...]string{"", "away", "dnd", "chat", "xa"}

func (a presenceAnswer) state() (string, error) {
	if !a.valid {
		return "", ErrInvalidJID
	}
	if !a.available || a.show < 0 || int(a.show) >= len(shows) {
		return "", ErrPresenceUnavailable
	}
	return shows[a.show], nil
}

// presenceStates is what GetPresenceMulti returns for answers.
func presenceStates(answers []presenceAnswer) ([]string, error) {
	states := make([]string, len(answers))
	failures := make(MultiError, len(answers))
	failed := false
	for i, answer := range answers {
		states[i], failures[i] = answer.state()
		failed = failed || failures[i] != nil
	}
	if failed {
		return states, failures
	}
	return states, nil
}
