package simulate

import (
	"net/http"
	"slices"
	"sync"
)

// Rule selects requests for a fault.
type Rule struct {
	// Fault answers them; nil is the server itself, an exception from older
	// rules.
	Fault Fault
	// Match selects requests; nil selects all. It must not use the Switch.
	Match func(*http.Request) bool
	// Times is the number of requests after which the rule ends; 0 is without
	// end.
	Times int
}

// Switch is a handler whose faults can change while it serves. Of several rules
// that match a request, the newest applies. It is safe for concurrent use.
type Switch struct {
	next http.Handler

	mu    sync.Mutex
	rules []*Rule // newest last
}

// NewSwitch returns a Switch in front of next, without faults.
func NewSwitch(next http.Handler) *Switch {
	return &Switch{next: next}
}

// Set replaces all rules by f for all requests.
func (s *Switch) Set(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = []*Rule{{Fault: f}}
}

// Next adds f for the next n requests, none if n is not positive.
func (s *Switch) Next(n int, f Fault) {
	if n > 0 {
		s.Add(Rule{Fault: f, Times: n})
	}
}

// Add adds a rule.
func (s *Switch) Add(r Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, &r)
}

// Clear removes all rules.
func (s *Switch) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// ServeHTTP implements [http.Handler].
func (s *Switch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := s.next
	if f := s.pick(r); f != nil {
		h = f(h)
	}
	h.ServeHTTP(w, r)
}

func (s *Switch) pick(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, rule := range slices.Backward(s.rules) {
		if rule.Match != nil && !rule.Match(r) {
			continue
		}
		if rule.Times > 0 {
			if rule.Times--; rule.Times == 0 {
				s.rules = slices.Delete(s.rules, i, i+1)
			}
		}
		return rule.Fault
	}
	return nil
}
