package simulate

import (
	"encoding/json"
	"net/http"
)

// Answer is a response that is ready to be written.
type Answer struct {
	Status      int    // zero is 200
	ContentType string // empty is application/json
	RetryAfter  string // empty is no header
	Body        []byte
}

// Write sends the answer. A write fails only if the client has gone.
func (a Answer) Write(w http.ResponseWriter) {
	contentType := a.ContentType
	if contentType == "" {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	if a.RetryAfter != "" {
		w.Header().Set("Retry-After", a.RetryAfter)
	}
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = w.Write(a.Body)
}

// Quote returns a string as JSON.
func Quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // Marshal does not fail for a string.
	}
	return string(b)
}
