package xmpp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxAnswer has room for the statuses of the largest call.
const maxAnswer = 8 << 20

// gatewayTimeout bounds calls whose context has no deadline.
const gatewayTimeout = 60 * time.Second

// gateway calls a gateway's HTTP API.
type gateway struct {
	base   *url.URL
	user   *url.Userinfo
	client *http.Client
}

func openGateway(backend string, options Options) (*gateway, error) {
	base, err := url.Parse(backend)
	if err != nil || base.Host == "" {
		// The text of a URL may hold a password: it is not repeated.
		return nil, &Error{CodeConfig, "the backend is no URL; write http://USER:SECRET@HOST:PORT"}
	}
	user := base.User
	if password, _ := user.Password(); options.Secret != "" && password == "" {
		user = url.UserPassword(user.Username(), options.Secret)
	}
	plain := *base
	plain.User = nil
	plain.Path = strings.TrimSuffix(plain.Path, "/")
	// A gateway redirects nobody; one that does is another program.
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &gateway{base: &plain, user: user, client: &http.Client{
		Timeout: gatewayTimeout, CheckRedirect: refuse,
	}}, nil
}

func (g *gateway) sendMessage(ctx context.Context, m *Message) ([]int32, error) {
	type call struct {
		JIDs   []string `json:"jids"`
		Body   string   `json:"body"`
		From   string   `json:"from,omitempty"`
		Type   string   `json:"type,omitempty"`
		RawXML bool     `json:"raw_xml"`
	}
	var answer struct {
		Statuses []int32 `json:"statuses"`
	}
	to := m.To
	if to == nil {
		to = []string{}
	}
	err := g.call(ctx, "message", call{to, m.Body, m.Sender, m.Type, m.RawXML}, &answer)
	if err == nil && len(answer.Statuses) != len(m.To) {
		err = unexpected(fmt.Sprintf("%d statuses for %d recipients", len(answer.Statuses), len(m.To)))
	}
	return answer.Statuses, err
}

func (g *gateway) sendPresence(ctx context.Context, p *Presence) error {
	return g.call(ctx, "presence", struct {
		JID    string `json:"jid"`
		Type   string `json:"type"`
		Show   string `json:"show"`
		Status string `json:"status,omitempty"`
		From   string `json:"from,omitempty"`
	}{p.To, p.Type, p.State, p.Status, p.Sender}, nil)
}

func (g *gateway) invite(ctx context.Context, to, from string) error {
	return g.call(ctx, "invite", struct {
		JID  string `json:"jid"`
		From string `json:"from,omitempty"`
	}{to, from}, nil)
}

func (g *gateway) getPresence(ctx context.Context, to []string, from string) ([]presenceAnswer, error) {
	var answer struct {
		Presence []struct {
			Available bool   `json:"available"`
			Show      *int32 `json:"show"`
			Valid     bool   `json:"valid"`
		} `json:"presence"`
	}
	err := g.call(ctx, "get_presence", struct {
		JIDs []string `json:"jids"`
		From string   `json:"from,omitempty"`
	}{to, from}, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Presence) != len(to) {
		return nil, unexpected(fmt.Sprintf("%d answers for %d contacts", len(answer.Presence), len(to)))
	}
	answers := make([]presenceAnswer, len(to))
	for i, one := range answer.Presence {
		answers[i] = presenceAnswer{one.Available, -1, one.Valid}
		if one.Show != nil {
			answers[i].show = *one.Show
		}
	}
	return answers, nil
}

// waitReady returns at once: each call finds out for itself.
func (g *gateway) waitReady(context.Context) error {
	return nil
}

func (g *gateway) close(context.Context) {
	g.client.CloseIdleConnections()
}

func (g *gateway) call(ctx context.Context, name string, arguments, answer any) error {
	body, err := json.Marshal(arguments)
	if err != nil {
		return &Error{CodeInternal, err.Error()}
	}
	target := g.base.JoinPath("appxmpp", "v1", name).String()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return &Error{CodeConfig, err.Error()}
	}
	request.Header.Set("Content-Type", "application/json")
	if password, set := g.user.Password(); set {
		request.SetBasicAuth(g.user.Username(), password)
	}
	response, err := g.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return unreachable(err)
	}
	if response.StatusCode != http.StatusOK {
		return refusal(response.StatusCode, content)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return unexpected(err.Error())
	}
	return nil
}

func unreachable(err error) error {
	var failure *url.Error
	if errors.As(err, &failure) {
		if failure.Timeout() {
			return &Error{CodeTimeout, fmt.Sprintf("the gateway did not answer (%v); it may have sent it", failure.Err)}
		}
		err = failure.Err
	}
	return &Error{CodeNotConnected, fmt.Sprintf("the gateway cannot be reached (%v); try later", err)}
}

func unexpected(what string) error {
	return &Error{CodeInternal, "the gateway's answer is not what was asked for: " + what}
}

// refusal is the error for an HTTP status, with the service's own words if it has any.
func refusal(status int, content []byte) error {
	var answer struct {
		Error struct {
			Code int    `json:"code"`
			Text string `json:"text"`
		} `json:"error"`
	}
	switch status {
	case http.StatusUnprocessableEntity:
		if json.Unmarshal(content, &answer) == nil {
			return &Error{serviceCode(answer.Error.Code), answer.Error.Text}
		}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &Error{CodeNotAuthorized, "the gateway refused the credentials; give those of its configuration"}
	case http.StatusRequestEntityTooLarge:
		return &Error{CodeRequestTooLarge, "the arguments of one call are over 1 MiB in all; send less at a time"}
	case http.StatusTooManyRequests:
		return &Error{CodeBusy, "the gateway is busy; try later"}
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &Error{CodeNotConnected, "the gateway has no stream to the server; try later"}
	}
	return unexpected(fmt.Sprintf("status %d", status))
}

// serviceCode is our code for App Engine's XmppServiceError.
func serviceCode(number int) Code {
	switch number {
	case serviceInvalidJID:
		return CodeInvalidJID
	case serviceNoBody:
		return CodeNoBody
	case serviceInvalidXML:
		return CodeInvalidXML
	case serviceInvalidType:
		return CodeInvalidType
	case serviceInvalidShow:
		return CodeInvalidShow
	case serviceExceededMaxSize:
		return CodeTooLarge
	}
	return CodeInternal
}
