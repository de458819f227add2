// WEBHOOK_SECRET=... APPXMPP_BACKEND=http://bot.example.com@127.0.0.1:5390 APPXMPP_SECRET=... go run ./webhook
//
// A bot behind a gateway: the gateway posts what arrives to http://127.0.0.1:8080/_ah/xmpp/..., and the
// answers go back through the gateway's HTTP API. LISTEN chooses another address.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	xmpp "appxmpp/capi/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	client, err := xmpp.Connect(ctx, "", xmpp.Options{Secret: os.Getenv("APPXMPP_SECRET")})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	xmpp.Handle(func(ctx context.Context, m *xmpp.Message) {
		reply := &xmpp.Message{Sender: m.To[0], To: []string{m.Sender}, Body: "You said: " + m.Body}
		if err := reply.Send(ctx); err != nil {
			log.Printf("no answer to %s: %v", m.Sender, err)
		}
	})

	webhook, err := xmpp.NewWebhook(os.Getenv("WEBHOOK_SECRET"), xmpp.WebhookOptions{})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/_ah/xmpp/", webhook)
	address := os.Getenv("LISTEN")
	if address == "" {
		address = "127.0.0.1:8080"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("listening at %s", listener.Addr())
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
