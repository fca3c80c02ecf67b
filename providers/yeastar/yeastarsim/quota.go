package yeastarsim

import "time"

// Quota allows Burst requests at once and then Requests in every Per. Over a
// real network, where requests may arrive closer together than they were sent,
// give one more Burst than the client has. A quota without Requests allows
// everything.
type Quota struct {
	Requests int
	Per      time.Duration
	Burst    int // less than one is one
	Hint     Hint
}
