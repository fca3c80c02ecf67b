package simulate

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Arrival is a request that reached a server.
type Arrival struct {
	Time         time.Time
	Method, Path string
}

// Recorder records the arrival of every request that passes its middleware. The
// zero value is ready. It is safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	arrivals []Arrival
}

// Wrap returns next with its requests recorded.
func (r *Recorder) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.record(req)
		next.ServeHTTP(w, req)
	})
}

func (r *Recorder) record(req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// The clock is read under the lock, so that the arrivals are in order.
	r.arrivals = append(r.arrivals, Arrival{Time: time.Now(), Method: req.Method, Path: req.URL.Path})
}

// Arrivals returns a copy of the recorded arrivals, oldest first.
func (r *Recorder) Arrivals() []Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// Len returns the number of requests recorded.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.arrivals)
}

// Reset removes all arrivals.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = nil
}

// Violation is a window with more requests than allowed.
type Violation struct {
	// From and To are the arrivals of the first and the last request in it.
	From, To time.Time
	// Requests is how many arrived.
	Requests int
}

// String returns the violation in words.
func (v Violation) String() string {
	return fmt.Sprintf("%d requests within %s from %s", v.Requests, v.To.Sub(v.From), v.From.Format(time.RFC3339Nano))
}

// Excess returns the first violation, if there is one, of the rule that in
// any window, ends included, there are at most
//
//	burst + window × requests / per
//
// requests. First is the one whose last request arrived first. The arguments
// must be positive.
func (r *Recorder) Excess(requests int, per time.Duration, burst int) (v Violation, found bool) {
	b := NewBucket(requests, per, burst)
	arrivals, first := r.Arrivals(), 0
	for last, a := range arrivals {
		// Requests from before the bucket ran dry do not count.
		if b.drain(a.Time) {
			first = last
		}
		b.level += b.per
		if b.level > b.capacity {
			return Violation{From: arrivals[first].Time, To: a.Time, Requests: last - first + 1}, true
		}
	}
	return Violation{}, false
}
