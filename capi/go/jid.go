package xmpp

/*
#include <appxmpp.h>
*/
import "C"

// JID is an address, localpart@domainpart/resourcepart, in its prepared form (RFC 7622): two of them
// name the same entity if and only if they are equal.
type JID struct {
	Localpart, Domainpart, Resourcepart string
}

// ParseJID parses and prepares an address. The error is ErrInvalidJID.
func ParseJID(address string) (JID, error) {
	var parsed *C.appxmpp_jid
	var failure *C.appxmpp_error
	if err := taken(C.appxmpp_jid_parse(text(address), size(address), &parsed, &failure), failure); err != nil {
		return JID{}, err
	}
	defer C.appxmpp_jid_free(parsed)
	return JID{
		Localpart:    lent(C.appxmpp_jid_localpart(parsed)),
		Domainpart:   lent(C.appxmpp_jid_domainpart(parsed)),
		Resourcepart: lent(C.appxmpp_jid_resourcepart(parsed)),
	}, nil
}

// String is the whole address.
func (j JID) String() string {
	whole := j.Bare()
	if j.Resourcepart != "" {
		whole += "/" + j.Resourcepart
	}
	return whole
}

// Bare is the address without its resourcepart.
func (j JID) Bare() string {
	if j.Localpart == "" {
		return j.Domainpart
	}
	return j.Localpart + "@" + j.Domainpart
}
