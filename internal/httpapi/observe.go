package httpapi

import (
	"net/http"
	"strconv"
	"time"
)

// Observer is told of each HTTP request that was sent: a consumer contract for
// the exporter's own metrics.
type Observer interface {
	// Request gets the answer's status, or "error" if there was none, and the
	// time to the first byte of the answer.
	Request(provider, account, code string, took time.Duration)
}

// observed is the link of the chain that counts what is really sent.
type observed struct {
	provider, account string
	observer          Observer
	next              http.RoundTripper
}

func (l observed) RoundTrip(req *http.Request) (*http.Response, error) {
	start := time.Now()
	resp, err := l.next.RoundTrip(req)
	code := "error"
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	l.observer.Request(l.provider, l.account, code, time.Since(start))
	return resp, err
}
