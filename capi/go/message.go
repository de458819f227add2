package xmpp

import "context"

// Message is a chat message, sent or received.
type Message struct {
	// Sender is the address that the message comes from. Sending, empty means the app's own
	// default; otherwise it must be an address of the app.
	Sender string
	// To has the recipients. A received message has one.
	To []string
	// Body is the text.
	Body string
	// Type is one of chat, error, groupchat, headline and normal (RFC 6121 section 5.2.2). Sending,
	// empty means chat.
	Type string
	// RawXML says that Body is XML, the children of the stanza, instead of text.
	RawXML bool
}

// Send sends the message to each of its recipients.
//
// A MultiError has, for each recipient, nil or why the message was not sent there: a StatusError.
// Any other error means that nothing was sent. Nil means that the message was written to a live
// stream, for every recipient.
func (m *Message) Send(ctx context.Context) error {
	client, err := clientFor(ctx)
	if err != nil {
		return err
	}
	return client.Send(ctx, m)
}

// Handle has f called with each chat message that arrives, replacing the function before it.
//
// Messages of one sender come one after another, those of different senders at the same time. ctx
// has the client that the message came by, and what else is known about it (DeliveryFrom).
func Handle(f func(ctx context.Context, m *Message)) {
	DefaultHandlers.Handle(f)
}
