package xmpp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"
)

// The headers of a gateway's post.
const (
	headerSignature = "Appxmpp-Signature"
	headerDelivery  = "Appxmpp-Delivery"
)

const (
	// defaultMaxBytes has room for the largest stanza of a server (512 KiB) in both its forms.
	defaultMaxBytes = 2 << 20
	maxFields       = 16
)

// Webhook is the http.Handler of the posts that a gateway makes to /_ah/xmpp/. Make it with
// NewWebhook.
//
// A post without a valid signature is refused with 403 before anything in it is read as a form. One
// that arrives twice is handled once; one that arrives again while it is handled has the same answer then.
type Webhook struct {
	verifier verifier
	options  WebhookOptions
	seen     seen
}

// WebhookOptions may all be left out.
type WebhookOptions struct {
	// Handlers are called with what arrives; nil means DefaultHandlers.
	Handlers *Handlers
	// Client is what handlers find in their context; nil means the default client.
	Client *Client
	// MaxBytes is the size of the largest request that is read; 0 means 2 MiB.
	MaxBytes int64
}

// NewWebhook makes the handler of a gateway's posts. secret is the app's webhook secret, as the
// gateway's configuration has it; it must not be empty.
func NewWebhook(secret string, options WebhookOptions) (*Webhook, error) {
	if secret == "" {
		return nil, &Error{CodeConfig, "a webhook needs the secret that the gateway signs with; it is empty"}
	}
	if options.MaxBytes == 0 {
		options.MaxBytes = defaultMaxBytes
	}
	if options.Handlers == nil {
		options.Handlers = DefaultHandlers
	}
	return &Webhook{verifier: verifier{key: []byte(secret), now: time.Now}, options: options}, nil
}

// ServeHTTP answers 200 to what was handled, 404 where there is no handler, 403 to a request that is
// not the gateway's, 500 if the handler panicked, and 503 to a repetition that does not wait for its end.
func (w *Webhook) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		response.Header().Set("Allow", http.MethodPost)
		http.Error(response, "the gateway's posts only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, w.options.MaxBytes))
	if err != nil {
		status := http.StatusBadRequest
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(response, "the request could not be read", status)
		return
	}
	id, err := w.verifier.verify(request.Header, body)
	if err != nil {
		http.Error(response, err.Error(), http.StatusForbidden)
		return
	}
	fields, err := parseForm(request.Header.Get("Content-Type"), body)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	response.WriteHeader(int(w.dispatch(request.Context(), id, &Delivery{Path: request.URL.Path, Fields: fields})))
}

func (w *Webhook) dispatch(ctx context.Context, id string, delivery *Delivery) outcome {
	// A gateway that did not get the answer to its first attempt asks again, in its order.
	key := id + " " + delivery.Path
	if first, err := w.seen.begin(ctx, key, w.verifier.now()); err != nil {
		return unfinished
	} else if !first {
		return handled
	}
	// A handler may also end its goroutine.
	result := failed
	defer func() { w.seen.end(key, result == handled, w.verifier.now()) }()
	if w.options.Client != nil {
		ctx = WithClient(ctx, w.options.Client)
	}
	result = w.options.Handlers.serve(ctx, delivery)
	return result
}

// parseForm reads a multipart/form-data request (RFC 7578) whose parts are text.
func parseForm(contentType string, body []byte) ([]Field, error) {
	media, parameters, err := mime.ParseMediaType(contentType)
	if err != nil || media != "multipart/form-data" || parameters["boundary"] == "" {
		return nil, errors.New("the content type must be multipart/form-data with a boundary")
	}
	reader := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
	var fields []Field
	for {
		part, err := reader.NextRawPart()
		if err == io.EOF {
			return fields, nil
		}
		if err != nil {
			return nil, errors.New("the form is malformed")
		}
		value, err := io.ReadAll(part)
		if err != nil || !utf8.Valid(value) {
			return nil, errors.New("a field of the form is cut off or is not UTF-8")
		}
		name := part.FormName()
		if name == "" || part.FileName() != "" || len(fields) == maxFields || hasField(fields, name) {
			return nil, errors.New("the form has fields that the gateway does not write")
		}
		fields = append(fields, Field{strings.Clone(name), string(value)})
	}
}

func hasField(fields []Field, name string) bool {
	for _, field := range fields {
		if field.Name == name {
			return true
		}
	}
	return false
}
