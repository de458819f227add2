// Package peer is the server side of component connections (XEP-0114), for the tests.
package peer

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Patience is how long anything is waited for.
const Patience = 20 * time.Second

// Stanza is what the component sent.
type Stanza struct {
	XMLName xml.Name
	From    string `xml:"from,attr"`
	To      string `xml:"to,attr"`
	Type    string `xml:"type,attr"`
	ID      string `xml:"id,attr"`
	Body    string `xml:"body"`
	Show    string `xml:"show"`
	Status  string `xml:"status"`
	Inner   string `xml:",innerxml"`
}

// Server takes one component at a time.
type Server struct {
	// Stanzas has what the component sent.
	Stanzas chan Stanza
	// Secret is what the component must know.
	Secret string

	listener net.Listener
	mu       sync.Mutex
	conn     net.Conn
}

// Listen starts a server on a port of its own.
func Listen(secret string) (*Server, error) {
	return ListenBuffered(secret, 4096)
}

// ListenBuffered is Listen; the server reads no more while more than room stanzas wait in Stanzas.
func ListenBuffered(secret string, room int) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &Server{Stanzas: make(chan Stanza, room), Secret: secret, listener: listener}
	go server.accept()
	return server, nil
}

// Addr is HOST:PORT.
func (s *Server) Addr() string {
	return s.listener.Addr().String()
}

// Close ends the server and its connection.
func (s *Server) Close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.Close()
	}
}

// Write sends XML to the component.
func (s *Server) Write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return fmt.Errorf("no component is connected")
	}
	_, err := io.WriteString(s.conn, text)
	return err
}

// Next is the next message or subscription that the component sent; other presence is passed over.
func (s *Server) Next(kinds ...string) (Stanza, error) {
	deadline := time.After(Patience)
	for {
		select {
		case stanza := <-s.Stanzas:
			for _, kind := range kinds {
				if kind == stanza.XMLName.Local {
					return stanza, nil
				}
			}
		case <-deadline:
			return Stanza{}, fmt.Errorf("the component sent none of %v", kinds)
		}
	}
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.serve(conn)
	}
}

func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	decoder := xml.NewDecoder(bufio.NewReader(conn))
	const id = "a1b2"
	for {
		token, err := decoder.Token()
		if err != nil {
			return
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			if _, end := token.(xml.EndElement); end {
				io.WriteString(conn, "</stream:stream>")
				return
			}
			continue
		}
		if start.Name.Local == "stream" {
			domain := ""
			for _, attribute := range start.Attr {
				if attribute.Name.Local == "to" {
					domain = attribute.Value
				}
			}
			fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "+
				"xmlns:stream='http://etherx.jabber.org/streams' from='%s' id='%s'>", domain, id)
			continue
		}
		var stanza Stanza
		if decoder.DecodeElement(&stanza, &start) != nil {
			return
		}
		if stanza.XMLName.Local != "handshake" {
			s.Stanzas <- stanza
			continue
		}
		sum := sha1.Sum([]byte(id + s.Secret))
		if strings.TrimSpace(stanza.Inner) != hex.EncodeToString(sum[:]) {
			io.WriteString(conn, "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
			return
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		io.WriteString(conn, "<handshake/>")
	}
}
