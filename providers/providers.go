// Package providers holds the domain (balances, prices, subscriber balances)
// and the contract between a provider's client and the rest of the exporter.
// It knows nothing of Prometheus.
//
// A provider is one telecom API. Each lives in a folder of its own below this
// one and is listed in providers/all; docs/adding-a-provider.md shows the steps.
package providers

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// Provider describes one telecom API. The zero value is not usable.
type Provider struct {
	// Name is the value of the label `provider` and of the configuration key
	// `provider`.
	Name string
	// BaseURL is where the API answers unless an account says otherwise.
	BaseURL string
	// RateLimit holds for an account that does not set `rate_limit`.
	RateLimit quota.Limit
	// Configure decodes and checks what only this provider knows of an
	// account's configuration. Every key that it does not take is an error.
	// It sends nothing.
	Configure func(section *config.Section) (Config, error)
}

// Config is the checked configuration of one account.
type Config interface {
	// Parts returns the kinds of source that are turned on, with their settings.
	Parts() []Part
	// Secrets returns every secret of the account, so that they can be masked
	// and watched for changes.
	Secrets() []*secret.Value
	// Identity names the remote account (an account id, a user name) without
	// any secret. Kept state is dropped when it changes.
	Identity() string
	// Open returns the account, ready to be read. It sends nothing.
	Open(env Env) (Account, error)
}

// Part is the configuration of all sources of one kind of one account.
type Part struct {
	Kind Kind
	// Interval is how often a value is read.
	Interval time.Duration
	// MaxAge is how long a value is served after the last success.
	MaxAge time.Duration
	// LowThreshold is the amount below which an operator wants to know, in the
	// currency of the balance; nil if none is set.
	LowThreshold *float64
}

// Env is what an account gets from the exporter.
type Env struct {
	// Account is the configured name: the label `account`.
	Account string
	// HTTP sends the account's requests, and is the only way to send one: it
	// holds the quota, the size limits and the masking of secrets. Its base URL
	// and timeout are those of the account.
	HTTP HTTP
	// Warn reports a fault of the surroundings that costs no value, such as a
	// bad line of a subscriber file. Secrets in args are masked.
	Warn func(msg string, args ...any)
}

// HTTP sends requests for one account; implemented by internal/httpapi.
type HTTP interface {
	// Do sends call once the account's quota allows it, and decodes the answer.
	// An error is nil or an [*Error].
	Do(ctx context.Context, call Call) error
	// Mask hides text, such as a token received at run time, from everything
	// that is logged or shown from now on.
	Mask(text string)
}

// Call is one HTTP request and what is to be done with its answer.
type Call struct {
	// Method defaults to GET.
	Method string
	// Path is joined to the account's base URL; its parts are escaped already.
	Path string
	// Query is the encoded query without the question mark; may be empty.
	Query  string
	Header http.Header
	// Authorize, if not nil, returns further header lines. It is called when the
	// quota lets the request through: in a fleet that may be minutes after Do, and a
	// token from then have ended. On an error nothing is sent, no request is spent,
	// and Do returns it.
	Authorize func() (http.Header, error)
	// Body is sent as it is; nil for none.
	Body []byte
	// Large lets the answer have 64 MiB instead of 1 MiB and takes one of the
	// places that a process has for such answers while the body is read. The
	// answer is streamed to Decode.
	Large bool
	// Login marks a request for a token: an answer "unauthorized" to it is no
	// longer a matter of an old token.
	Login bool
	// Check turns an answer into an error, nil for a good one. It is called for
	// every answer except a good one to a Large call, of which it sees the body
	// only if the status is no 2xx. Nil means [CheckStatus].
	Check func(Answer) *Error
	// Decode reads a good answer. Its errors become ReasonBadResponse unless
	// they are an [*Error].
	Decode func(body io.Reader) error
}

// Answer is a whole HTTP answer, its body bounded to 1 MiB.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Keeper is a Source that has more to keep over a restart than its values.
type Keeper interface {
	Source
	// Restore takes what an earlier Fetch left in Reading.Kept, and returns the
	// Roster that came with it, if any. Bytes that are not understood are an
	// error, and the source starts afresh.
	Restore(kept []byte) ([]Source, error)
}

// Lister is a Source that finds other sources: its readings have a Roster and no
// values.
type Lister interface {
	Source
	// Known returns the roster as far as it is known without asking the provider,
	// until a reading replaces it.
	Known() []Source
}

// Account is one opened account: a set of sources.
type Account interface {
	// Sources returns the sources known without asking the provider. A source
	// may add others by the Roster of its Reading. Keys are unique.
	Sources() []Source
}

// Source is one thing with its own refresh interval. Sources are told apart by
// their keys, and hold nothing that cannot be had again.
type Source interface {
	// Key is stable over restarts and changes when what the source reads
	// changes, so that a kept value is never taken for another. No secret and
	// no personal identifier may be recognisable in it.
	Key() string
	// Kind is the part of the account that the source belongs to.
	Kind() Kind
	// Interval is the refresh interval.
	Interval() time.Duration
	// Requests is how many HTTP requests one Fetch sends, logins not counted.
	Requests() int
	// Fetch reads the source, all or nothing. Errors are [*Error] or carry the
	// context's error.
	Fetch(ctx context.Context) (Reading, error)
}
