// APPXMPP_BACKEND=component://bot.example.com@127.0.0.1:5347 APPXMPP_SECRET=... go run ./echo
//
// A bot that says what it is told, grants every subscription's wish to chat, and stops on Ctrl-C.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	xmpp "appxmpp/capi/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	xmpp.Handle(func(ctx context.Context, m *xmpp.Message) {
		reply := &xmpp.Message{Sender: m.To[0], To: []string{m.Sender}, Body: m.Body}
		if err := reply.Send(ctx); err != nil {
			log.Printf("no answer to %s: %v", m.Sender, err)
		}
	})
	xmpp.HandleSubscription(func(ctx context.Context, p *xmpp.Presence) {
		log.Printf("%s: %s", p.Sender, p.Type)
	})
	xmpp.HandleError(func(ctx context.Context, r *xmpp.Report) {
		log.Printf("%s reports: %s", r.Sender, r.Stanza)
	})

	client, err := xmpp.Connect(ctx, "", xmpp.Options{})
	if err != nil {
		log.Fatal(err)
	}
	log.Print("connected")
	<-ctx.Done()
	if err := client.Close(); err != nil {
		log.Print(err)
	}
}
