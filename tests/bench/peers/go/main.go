// Sends messages with the Go package, one call after the other on one goroutine: BENCH_CONTEXT=cancellable by a
// context that can end, otherwise by one that cannot. With the word echo, it answers messages instead.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	xmpp "appxmpp/capi/go"
)

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	die(err)
	return value
}

func connect(ctx context.Context) *xmpp.Client {
	backend := fmt.Sprintf("component://%s:%s@%s", os.Getenv("BENCH_DOMAIN"), os.Getenv("BENCH_SECRET"), os.Getenv("BENCH_SERVER"))
	client, err := xmpp.Connect(ctx, backend, xmpp.Options{})
	die(err)
	fmt.Println("ready")
	return client
}

func send(ctx context.Context) {
	if os.Getenv("BENCH_CONTEXT") == "cancellable" {
		cancellable, cancel := context.WithCancel(ctx)
		defer cancel()
		ctx = cancellable
	}
	client := connect(ctx)
	defer client.Close()
	message := &xmpp.Message{To: []string{os.Getenv("BENCH_TO")}, Body: strings.Repeat("x", number("BENCH_BODY"))}
	count := number("BENCH_COUNT")
	for runner := bufio.NewScanner(os.Stdin); runner.Scan(); fmt.Println("done") {
		for i := 0; i < count; i++ {
			die(client.Send(ctx, message))
		}
	}
}

func echo(ctx context.Context) {
	xmpp.Handle(func(ctx context.Context, m *xmpp.Message) {
		die((&xmpp.Message{Sender: m.To[0], To: []string{m.Sender}, Body: m.Body}).Send(ctx))
	})
	connect(ctx)
	select {}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "echo" {
		echo(context.Background())
	}
	send(context.Background())
}
