package xmpp

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const now = 1_700_000_000

func hook(t *testing.T, handlers *Handlers) *Webhook {
	t.Helper()
	webhook, err := NewWebhook("key", WebhookOptions{Handlers: handlers, MaxBytes: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	webhook.verifier.now = func() time.Time { return time.Unix(now, 0) }
	return webhook
}

func signed(seconds, id, body string) string {
	mac := hmac.New(sha256.New, []byte("key"))
	fmt.Fprintf(mac, "%s.%s.%s", seconds, id, body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

func formOf(fields ...string) (contentType, body string) {
	var out bytes.Buffer
	writer := multipart.NewWriter(&out)
	writer.SetBoundary("----=abcdefghijklmnopqrstuvwxy")
	for i := 0; i < len(fields); i += 2 {
		writer.WriteField(fields[i], fields[i+1])
	}
	writer.Close()
	return writer.FormDataContentType(), out.String()
}

func posted(path, contentType, body string, headers ...string) *http.Request {
	request := httptest.NewRequest("POST", path, strings.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	return request
}

func status(webhook http.Handler, request *http.Request) int {
	response := httptest.NewRecorder()
	webhook.ServeHTTP(response, request)
	return response.Code
}

func TestTheSignatureIsTheGateways(t *testing.T) {
	// printf '1700000000.d1.hello' | openssl dgst -sha256 -hmac key, as in the gateway's own test.
	const value = "t=1700000000,v1=63ae541b40b113e9ed43053bff1bf556d0cb63daa426e76587428141bccdd9bd"
	v := verifier{key: []byte("key"), now: func() time.Time { return time.Unix(now+299, 0) }}
	header := http.Header{headerSignature: {value}, headerDelivery: {"d1"}}
	if id, err := v.verify(header, []byte("hello")); id != "d1" || err != nil {
		t.Error(id, err)
	}
}

func TestAPostReachesItsHandlerOnce(t *testing.T) {
	handlers, got := &Handlers{}, make(chan string, 9)
	handlers.Handle(func(ctx context.Context, m *Message) {
		got <- m.Sender + " " + m.To[0] + " " + m.Body + " " + DeliveryFrom(ctx).Stanza()
	})
	handlers.HandlePresence(func(_ context.Context, p *Presence) { got <- p.Type + " " + p.State + " " + p.Status })
	handlers.HandleSubscription(func(_ context.Context, p *Presence) { got <- p.Type })
	handlers.HandleError(func(_ context.Context, r *Report) { panic("deliberate") })
	webhook := hook(t, handlers)
	for i, one := range []struct {
		path, want string
		status     int
		fields     []string
	}{
		{"/_ah/xmpp/message/chat/", "a@b/c d@e ☺ <x/>", 200, []string{"from", "a@b/c", "to", "d@e", "body", "☺", "stanza", "<x/>"}},
		{"/_ah/xmpp/presence/available/", " away tea", 200, []string{"from", "a@b/c", "show", "away", "status", "tea"}},
		{"/_ah/xmpp/presence/unavailable/", "unavailable  ", 200, []string{"from", "a@b/c"}},
		{"/_ah/xmpp/subscription/subscribed/", "subscribed", 200, []string{"from", "a@b"}},
		{"/_ah/xmpp/error/", "", 500, []string{"from", "a@b"}},
		{"/_ah/xmpp/message/normal/", "", 404, []string{"from", "a@b"}},
		{"/_ah/xmpp/subscription/available/", "", 404, []string{"from", "a@b"}},
	} {
		kind, body := formOf(one.fields...)
		id := fmt.Sprint("d", i)
		for attempt := 0; attempt < 2; attempt++ {
			request := posted(one.path, kind, body, headerSignature, signed("1700000000", id, body), headerDelivery, id)
			if code := status(webhook, request); code != one.status {
				t.Errorf("%s, attempt %d: %d", one.path, attempt, code)
			}
		}
		if one.want == "" {
			continue
		}
		if text := received(t, got); text != one.want {
			t.Errorf("%s: %q", one.path, text)
		}
		if len(got) != 0 {
			t.Errorf("%s: handled twice", one.path)
		}
	}
}

func TestWhatTheGatewayDidNotSignIsRefused(t *testing.T) {
	handlers := &Handlers{}
	handlers.Handle(func(context.Context, *Message) { t.Error("the handler was called") })
	webhook := hook(t, handlers)
	kind, body := formOf("from", "a@b", "to", "d@e", "body", "x")
	good := signed("1700000000", "d", body)
	for name, headers := range map[string][]string{
		"nothing":              {},
		"no delivery":          {headerSignature, good},
		"no signature":         {headerDelivery, "d"},
		"another delivery":     {headerSignature, good, headerDelivery, "e"},
		"another body":         {headerSignature, signed("1700000000", "d", body+" "), headerDelivery, "d"},
		"another time":         {headerSignature, strings.Replace(good, "t=17", "t=18", 1), headerDelivery, "d"},
		"too old":              {headerSignature, signed("1699999699", "d", body), headerDelivery, "d"},
		"too new":              {headerSignature, signed("1700000301", "d", body), headerDelivery, "d"},
		"no time":              {headerSignature, signed("", "d", body), headerDelivery, "d"},
		"a time out of bounds": {headerSignature, signed("99999999999999999999", "d", body), headerDelivery, "d"},
		"cut off":              {headerSignature, good[:len(good)-2], headerDelivery, "d"},
		"two signatures":       {headerSignature, good, headerSignature, good, headerDelivery, "d"},
		"two deliveries":       {headerSignature, good, headerDelivery, "d", headerDelivery, "d"},
		"another version":      {headerSignature, strings.Replace(good, "v1", "v2", 1), headerDelivery, "d"},
		"a long id":            {headerSignature, signed("1700000000", strings.Repeat("d", 300), body), headerDelivery, strings.Repeat("d", 300)},
	} {
		if code := status(webhook, posted(pathChat, kind, body, headers...)); code != 403 {
			t.Errorf("%s: %d", name, code)
		}
	}
	if _, err := NewWebhook("", WebhookOptions{}); !errors.Is(err, ErrConfig) {
		t.Errorf("an empty secret: %v", err)
	}
}

func TestRequestsThatAreNoForm(t *testing.T) {
	webhook := hook(t, &Handlers{})
	kind, body := formOf("from", "a@b", "to", "d@e")
	_, twice := formOf("from", "a@b", "from", "d@e")
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprint("f", i)
	}
	_, tooMany := formOf(many...)
	for name, one := range map[string]struct {
		kind, body string
		status     int
	}{
		"another type":     {"application/json", "{}", 400},
		"no boundary":      {"multipart/form-data", body, 400},
		"another boundary": {"multipart/form-data; boundary=x", body, 400},
		"cut off":          {kind, body[:len(body)/2], 400},
		"twice the same":   {kind, twice, 400},
		"too many":         {kind, tooMany, 400},
		"not UTF-8":        {kind, strings.Replace(body, "a@b", "a@\xff", 1), 400},
		"a file":           {kind, strings.Replace(body, `name="to"`, `name="to"; filename="x"`, 1), 400},
		"too large":        {kind, body + strings.Repeat("x", 100_000), 413},
	} {
		request := posted(pathChat, one.kind, one.body, headerSignature, signed("1700000000", name, one.body), headerDelivery, name)
		if code := status(webhook, request); code != one.status {
			t.Errorf("%s: %d", name, code)
		}
	}
	if code := status(webhook, httptest.NewRequest("GET", pathChat, nil)); code != 405 {
		t.Errorf("GET: %d", code)
	}
}

// A gateway whose attempt was not answered in time makes another while the handler is still at work.
func TestARepetitionHasTheAnswerOfWhatIsUnderWay(t *testing.T) {
	for name, fails := range map[string]bool{"handled": false, "a panic": true} {
		handlers, calls, goOn := &Handlers{}, make(chan int, 9), make(chan struct{})
		var count atomic.Int32
		handlers.Handle(func(context.Context, *Message) {
			call := int(count.Add(1))
			calls <- call
			<-goOn
			if fails && call == 1 {
				panic("deliberate")
			}
		})
		webhook := hook(t, handlers)
		kind, body := formOf("from", "a@b", "to", "d@e", "body", "x")
		request := func() *http.Request {
			return posted(pathChat, kind, body, headerSignature, signed("1700000000", "d", body), headerDelivery, "d")
		}
		codes := [2]chan int{make(chan int, 1), make(chan int, 1)}
		go func() { codes[0] <- status(webhook, request()) }()
		received(t, calls)
		// One that is not waited for learns nothing about the first.
		if code := status(webhook, request().WithContext(ended())); code != 503 {
			t.Errorf("%s: a repetition without time: %d", name, code)
		}
		go func() { codes[1] <- status(webhook, request()) }()
		close(goOn)
		first, second := received(t, codes[0]), received(t, codes[1])
		if want := map[bool]int{false: 200, true: 500}[fails]; first != want || second != 200 {
			t.Errorf("%s: %d, then %d", name, first, second)
		}
		if want := map[bool]int32{false: 1, true: 2}[fails]; count.Load() != want {
			t.Errorf("%s: handled %d times", name, count.Load())
		}
	}
}

func TestAHandlerThatEndsItsGoroutineBlocksNoRepetition(t *testing.T) {
	handlers := &Handlers{}
	handlers.Handle(func(_ context.Context, m *Message) {
		if m.Body == "x" {
			runtime.Goexit()
		}
	})
	webhook := hook(t, handlers)
	kind, body := formOf("from", "a@b", "to", "d@e", "body", "x")
	over := make(chan struct{})
	go func() {
		defer close(over)
		status(webhook, posted(pathChat, kind, body, headerSignature, signed("1700000000", "d", body), headerDelivery, "d"))
	}()
	<-over
	kind, body = formOf("from", "a@b", "to", "d@e", "body", "y")
	again := posted(pathChat, kind, body, headerSignature, signed("1700000000", "d", body), headerDelivery, "d")
	if code := status(webhook, again); code != 200 {
		t.Error(code)
	}
}

func TestSeenDeliveriesAreForgottenInTime(t *testing.T) {
	var s seen
	start := time.Unix(now, 0)
	add := func(key string, at time.Time) bool {
		first, err := s.begin(context.Background(), key, at)
		if err != nil {
			t.Fatal(err)
		}
		if first {
			s.end(key, true, at)
		}
		return first
	}
	if !add("a", start) || add("a", start.Add(9*time.Minute)) {
		t.Error("a delivery came twice while its signature was good")
	}
	if !add("a", start.Add(11*time.Minute)) {
		t.Error("remembered for ever")
	}
	for i := 0; i < maxSeen+10; i++ {
		add(fmt.Sprint(i), start.Add(11*time.Minute))
	}
	if len(s.known) > maxSeen || len(s.order) > maxSeen {
		t.Errorf("%d are remembered", len(s.known))
	}
}

// api is a gateway that knows one answer.
func api(t *testing.T, code int, answer string) (context.Context, *string) {
	asked := new(string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		body, _ := io.ReadAll(r.Body)
		*asked = fmt.Sprint(r.Method, " ", r.URL.Path, " ", user, ":", password, " ", string(body))
		w.WriteHeader(code)
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	backend := strings.Replace(server.URL, "http://", "http://bot.example.com@", 1)
	client, err := Connect(context.Background(), backend, Options{Secret: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return WithClient(context.Background(), client), asked
}

func TestCallsThroughAGateway(t *testing.T) {
	ctx, asked := api(t, 200, `{"statuses": [0, 1]}`)
	err := (&Message{To: []string{"a@b", "x y"}, Body: "hi", Type: "normal"}).Send(ctx)
	var multi MultiError
	if !errors.As(err, &multi) || multi[0] != nil || multi[1] != StatusInvalidJID {
		t.Errorf("%#v", err)
	}
	if want := `POST /appxmpp/v1/message bot.example.com:secret {"jids":["a@b","x y"],"body":"hi","type":"normal","raw_xml":false}`; *asked != want {
		t.Error(*asked)
	}
	if err := (&Message{To: []string{"a@b"}, Body: "hi"}).Send(ctx); err == nil {
		t.Error("two statuses for one recipient were accepted")
	}
	ctx, asked = api(t, 200, `{"presence": [{"available": true, "show": 4, "valid": true}, {"available": true, "show": null, "valid": true}, {"valid": false}]}`)
	states, err := GetPresenceMulti(ctx, []string{"a@b", "c@d", "x y"}, "me@bot.example.com")
	if !errors.As(err, &multi) || states[0] != "xa" || multi[0] != nil || multi[1] != ErrPresenceUnavailable || multi[2] != ErrInvalidJID {
		t.Errorf("%v %v", states, err)
	}
	if want := `POST /appxmpp/v1/get_presence bot.example.com:secret {"jids":["a@b","c@d","x y"],"from":"me@bot.example.com"}`; *asked != want {
		t.Error(*asked)
	}
	ctx, asked = api(t, 200, `{}`)
	if err := (&Presence{To: "a@b", State: "away"}).Send(ctx); err != nil || !strings.Contains(*asked, `{"jid":"a@b","type":"","show":"away"}`) {
		t.Error(*asked, err)
	}
	if err := Invite(ctx, "a@b", ""); err != nil || !strings.Contains(*asked, `/invite bot.example.com:secret {"jid":"a@b"}`) {
		t.Error(*asked, err)
	}
}

func TestAGatewaysRefusals(t *testing.T) {
	service := func(code int) string {
		text, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "text": "its words"}})
		return string(text)
	}
	for _, one := range []struct {
		status int
		answer string
		want   error
	}{
		{422, service(2), ErrInvalidJID}, {422, service(3), ErrNoBody}, {422, service(4), ErrInvalidXML},
		{422, service(5), ErrInvalidType}, {422, service(6), ErrInvalidShow}, {422, service(7), ErrTooLarge},
		{401, "", ErrNotAuthorized}, {403, "", ErrNotAuthorized}, {413, "", ErrRequestTooLarge},
		{429, "", ErrBusy}, {503, service(1), ErrNotConnected}, {302, "", &Error{code: CodeInternal}},
	} {
		ctx, _ := api(t, one.status, one.answer)
		err := (&Message{To: []string{"a@b"}, Body: "hi"}).Send(ctx)
		if !errors.Is(err, one.want) || one.status == 422 && !strings.Contains(err.Error(), "its words") {
			t.Errorf("%d %s: %v", one.status, one.answer, err)
		}
	}
	client, err := Connect(context.Background(), "http://bot.example.com:top-secret@127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Invite(context.Background(), "a@b", "")
	if !errors.Is(err, ErrNotConnected) || strings.Contains(err.Error(), "top-secret") {
		t.Error(err)
	}
}
