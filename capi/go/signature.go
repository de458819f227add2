package xmpp

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// clockDifference is how far a signature's time may be from ours.
const clockDifference = 5 * time.Minute

// maxDeliveryID is longer than any gateway's ids.
const maxDeliveryID = 256

// verifier checks a gateway's signatures:
// "t=SECONDS,v1=HEX" with HMAC-SHA256 over SECONDS "." DELIVERY "." BODY.
type verifier struct {
	key []byte
	now func() time.Time
}

var errSignature = errors.New("the gateway's signature is missing, wrong or out of date")

// verify gives the id of the delivery if the signature is right. All that is wrong looks the same.
func (v *verifier) verify(header http.Header, body []byte) (string, error) {
	id, err := single(header, headerDelivery)
	if err != nil || len(id) > maxDeliveryID {
		return "", errSignature
	}
	signature, err := single(header, headerSignature)
	if err != nil {
		return "", errSignature
	}
	seconds, given, ok := splitSignature(signature)
	if !ok {
		return "", errSignature
	}
	mac := hmac.New(sha256.New, v.key)
	mac.Write([]byte(seconds + "." + id + "."))
	mac.Write(body)
	if !hmac.Equal(mac.Sum(nil), given) {
		return "", errSignature
	}
	stamp, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return "", errSignature
	}
	if apart := v.now().Sub(time.Unix(stamp, 0)); apart > clockDifference || apart < -clockDifference {
		return "", errSignature
	}
	return id, nil
}

// single is the value of a header that is there once.
func single(header http.Header, name string) (string, error) {
	values := header.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", errSignature
	}
	return values[0], nil
}

func splitSignature(text string) (seconds string, mac []byte, ok bool) {
	first, second, _ := strings.Cut(text, ",")
	seconds, hasTime := strings.CutPrefix(first, "t=")
	digits, hasMAC := strings.CutPrefix(second, "v1=")
	mac, err := hex.DecodeString(digits)
	return seconds, mac, hasTime && hasMAC && err == nil && len(mac) == sha256.Size
}

// maxSeen bounds the memory for deliveries that were handled.
const maxSeen = 1 << 16

// seen remembers deliveries that were handled, for as long as their signatures are good, and knows those
// that are being handled. The zero value is empty.
type seen struct {
	mu      sync.Mutex
	known   map[string]time.Time
	order   []string
	running map[string]chan struct{}
}

// begin reports whether key is to be handled, which ends with end. While another call handles it, it is
// waited for: what fails there comes again here. The error is that of ctx.
func (s *seen) begin(ctx context.Context, key string, now time.Time) (bool, error) {
	for {
		first, ended := s.enter(key, now)
		if ended == nil {
			return first, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// enter reports whether key is new; where it is being handled, it gives what is closed at the end of that.
func (s *seen) enter(key string, now time.Time) (first bool, ended chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	if _, there := s.known[key]; there {
		return false, nil
	}
	if ended, there := s.running[key]; there {
		return false, ended
	}
	if s.running == nil {
		s.known, s.running = make(map[string]time.Time), make(map[string]chan struct{})
	}
	s.running[key] = make(chan struct{})
	return true, nil
}

// end says what became of key; if it was not handled, it may come again.
func (s *seen) end(key string, handled bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.running[key])
	delete(s.running, key)
	if handled {
		s.known[key] = now
		s.order = append(s.order, key)
	}
}

// forget drops what is too old to be accepted, and the oldest where there are too many.
func (s *seen) forget(now time.Time) {
	for len(s.order) > 0 {
		since, there := s.known[s.order[0]]
		if there && len(s.order) < maxSeen && now.Sub(since) <= 2*clockDifference {
			return
		}
		delete(s.known, s.order[0])
		s.order = s.order[1:]
	}
}
