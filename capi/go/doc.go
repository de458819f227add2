// Package xmpp is App Engine's chat service for Go, on any XMPP server.
//
// It has the names of google.golang.org/appengine/xmpp: a bot that was written for that package
// changes its import and says where its server is:
//
//	xmpp.Handle(func(ctx context.Context, m *xmpp.Message) {
//		reply := &xmpp.Message{Sender: m.To[0], To: []string{m.Sender}, Body: "You said: " + m.Body}
//		if err := reply.Send(ctx); err != nil {
//			log.Print(err)
//		}
//	})
//	client, err := xmpp.Connect(ctx, "component://bot.example.com@127.0.0.1", xmpp.Options{})
//
// There are two ways to a server. Connect with a component:// or component+unix:// backend keeps a
// connection in this process (libappxmpp, by cgo) and hands what arrives to the handlers. Connect with
// an http:// or https:// backend calls a gateway, and Webhook is the http.Handler that the gateway
// posts to. Both reach the same handlers.
//
// A function takes the client from its context (WithClient; a handler's context has it), else the
// process's default: the first client that was connected and is open.
//
// Everything here may be used from any number of goroutines at once.
package xmpp

//go:generate go run ./internal/genconst -header ../include/appxmpp.h -out constants.go
