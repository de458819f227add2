package xmpp

/*
#include <appxmpp.h>
*/
import "C"

// Subscription says who of an app's address and a contact sees whose presence (RFC 6121 appendix A.1),
// seen from the app. A client keeps it for each contact by itself.
type Subscription int32

// Every Subscription there is. Out: the app asked for one; In: the contact did.
const (
	SubscriptionNone      Subscription = subscriptionNone
	SubscriptionNoneOut   Subscription = subscriptionNoneOut
	SubscriptionNoneIn    Subscription = subscriptionNoneIn
	SubscriptionNoneOutIn Subscription = subscriptionNoneOutIn
	SubscriptionTo        Subscription = subscriptionTo
	SubscriptionToIn      Subscription = subscriptionToIn
	SubscriptionFrom      Subscription = subscriptionFrom
	SubscriptionFromOut   Subscription = subscriptionFromOut
	SubscriptionBoth      Subscription = subscriptionBoth
)

// Sent gives the state after the app sends a presence of the type kind (subscribe, subscribed,
// unsubscribe or unsubscribed), and whether it is to be sent on (RFC 6121 appendix A.2).
func (s Subscription) Sent(kind string) (next Subscription, passes bool, err error) {
	return s.after(kind, false)
}

// Received gives the state after such a presence arrived, and whether it is news (RFC 6121 appendix
// A.3).
func (s Subscription) Received(kind string) (next Subscription, passes bool, err error) {
	return s.after(kind, true)
}

func (s Subscription) after(kind string, inbound bool) (Subscription, bool, error) {
	var next C.appxmpp_transition
	var failure *C.appxmpp_error
	result := C.appxmpp_subscription_next(C.int32_t(s), C.bool(inbound), text(kind), size(kind), &next, &failure)
	if err := taken(result, failure); err != nil {
		return s, false, err
	}
	return Subscription(next.state), bool(next.passes), nil
}
