package xmpp

// #include <stdbool.h>
// #include <stdint.h>
import "C"

import (
	"context"
	"sync"
)

// asking has the contexts of calls that may have to wait. C knows them by number: it may keep no
// pointer of Go's, and a call that need not wait must not cost a goroutine.
var asking contexts

type contexts struct {
	mu   sync.Mutex
	all  []context.Context
	free []uintptr
}

// add gives the number of ctx, which is not 0, until remove.
func (c *contexts) add(ctx context.Context) uintptr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := len(c.free) - 1; last >= 0 {
		number := c.free[last]
		c.free = c.free[:last]
		c.all[number-1] = ctx
		return number
	}
	c.all = append(c.all, ctx)
	return uintptr(len(c.all))
}

func (c *contexts) remove(number uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[number-1] = nil
	c.free = append(c.free, number)
}

func (c *contexts) get(number uintptr) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[number-1]
}

// appxmppGoOn is asked by the library, now and then, whether a call that waits is to go on.
//
//export appxmppGoOn
func appxmppGoOn(asked C.uintptr_t) C.bool {
	return asking.get(uintptr(asked)).Err() == nil
}
