// Package providers holds the domain (balances, prices, subscriber balances)
// and the contract between a provider's client and the rest of the exporter.
// It knows nothing of Prometheus, of the configuration file and of any disk
// format.
//
// A provider is one telecom API. Each has a folder of its own below this one and
// a line in providers/all; docs/adding-a-provider.md shows the steps.
package providers

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
)

// Provider describes one telecom API. The zero value is not usable.
type Provider struct {
	// Name is the value of the label `provider` and of the configuration key
	// `provider`.
	Name string
	// BaseURL is the address of the API unless an account sets `base_url`.
	BaseURL string
	// Regions are the hosts that serve the API, that of BaseURL among them: another
	// host of the provider gets a warning. Nil if they are not known.
	Regions []string
	// Hosts are the addresses of further hosts of the API, by a name that a
	// [Call] uses; an account may replace each under `hosts`. Nil for none.
	Hosts map[string]string
	// RateLimit applies to an account that does not set `rate_limit`.
	RateLimit quota.Limit
	// Configure decodes and checks the part of an account's configuration that
	// only this provider knows. Its error joins all faults that it finds. It sends
	// nothing.
	Configure func(section Section) (Account, error)
	// Load, if not nil, returns the provider with all other fields, which are empty
	// until then. It is for a provider that takes time to set up, and is called when
	// an account names it.
	Load func() (Provider, error)
	// Check, if not nil, returns the first fault that only a trial shows. It sends
	// nothing; it is for --config.check and for tests.
	Check func() error
}

// Section is the part of an account's configuration that its provider decodes.
// It is a consumer contract for internal/config.
type Section interface {
	// Decode fills dst, a pointer to a struct with yaml tags that may hold
	// defaults. An unknown key and a value of a wrong type are faults; the error
	// joins them, and what has none is decoded all the same.
	Decode(dst any) error
	// Errorf returns an error about the value at path, such as
	// "prices.networks[0].mnc": one line with file, line and path.
	Errorf(path, format string, args ...any) error
	// Warnf adds a warning about the value at path.
	Warnf(path, format string, args ...any)
	// Path returns p relative to the configuration file; "" stays "".
	Path(p string) string
	// Has reports whether the configuration sets a value at path.
	Has(path string) bool
}

// Account is the checked configuration of one account.
type Account struct {
	// Parts are the kinds of source that are turned on, with their settings.
	Parts []Part
	// Secrets are all secrets of the account, to mask them and to notice that
	// one has changed.
	Secrets []*secret.Value
	// Identity names the remote account (an account id, a user name) without
	// any secret; empty if only a secret names it. Stored values and quota are
	// dropped when it changes.
	Identity string
	// OneReader is set if the account logs in and a new token may end the validity of
	// the one before: of several replicas, one at a time reads the account.
	OneReader bool
	// Open returns the sources that are known without a request. Their keys are
	// unique. It sends nothing.
	Open func(env Env) ([]Source, error)
}

// Part is the configuration of all sources of one kind of one account.
type Part struct {
	Kind Kind
	// Interval is the refresh interval.
	Interval time.Duration
	// MaxAge is how long a value is served after the last success.
	MaxAge time.Duration
	// LowThreshold is the amount below which an operator wants to be alerted, in
	// the currency of the balance; nil for none.
	LowThreshold *float64
	// TopupLead is how long it takes to get money onto the account; 0 if the
	// account is not paged for running out.
	TopupLead time.Duration
	// Fleet is set if a list names any number of sources of the kind. They are
	// counted by state, and logged together instead of one by one.
	Fleet bool
	// Series says which sources of a fleet have series of their own.
	Series Series
	// LowThresholds are the amounts below which a subscriber is low, by currency or
	// unit.
	LowThresholds map[string]float64
}

// IsLow reports whether b is below its threshold.
func (p Part) IsLow(b SubscriberBalance) bool {
	threshold, ok := p.LowThresholds[b.Label()]
	return ok && b.Value < threshold
}

// IsLowBalance reports whether b is below LowThreshold.
func (p Part) IsLowBalance(b Balance) bool {
	return p.LowThreshold != nil && b.Amount < *p.LowThreshold
}

// Env is what an account gets from the exporter.
type Env struct {
	// Account is the configured name: the label `account`.
	Account string
	// HTTP is the only way to send a request: it applies the quota, the bounds
	// on answers and the masking of secrets.
	HTTP HTTP
	// Warn reports a fault that costs no value, such as a bad line of a
	// subscriber file. Secrets in args are masked.
	Warn func(msg string, args ...any)
}

// HTTP sends the requests of one account; implemented by internal/httpapi.
type HTTP interface {
	// Do sends call as soon as the account's quota allows it and passes the
	// answer to the call. The error is nil or an [*Error].
	Do(ctx context.Context, call Call) error
	// Mask hides text, such as a token received at run time, from everything
	// that is logged or shown from now on.
	Mask(text string)
}

// Call is one HTTP request and how to read its answer.
type Call struct {
	// Method defaults to GET.
	Method string
	// Host names one of [Provider.Hosts]; empty for the base URL.
	Host string
	// Path is appended to the address of the host. Its segments are escaped.
	Path string
	// Query is the encoded query without the question mark; may be empty.
	Query string
	// Header replaces the default header lines and those that the account sets under
	// `headers`. Authorize replaces all of them.
	Header http.Header
	// Authorize, if not nil, returns the header lines with the credentials. It
	// is called after the wait for the quota, right before the request is sent:
	// in a fleet that wait may outlast a token. If it fails, nothing is sent, no
	// quota is spent, and Do returns its error.
	Authorize func() (http.Header, error)
	// Body is sent as it is; nil for none.
	Body []byte
	// Login marks the request for a token: its success does not end the
	// back-off of the account, and it may be sent again like a GET if a reused
	// connection breaks.
	Login bool
	// Renewable, if not nil, is called when the answer refuses the credentials
	// (ReasonAuth). It reports whether the caller tries again with another token,
	// so that the account is not blocked yet. It is a function because only
	// Authorize determines the token, and other requests of the account decide
	// meanwhile whether that token has worked. It does no I/O.
	Renewable func() bool
	// Parse reads an answer of any status, and returns an error for one that
	// is no success: an [*Error], or any other error for an answer that it does
	// not understand (ReasonBadResponse). Nil means [CheckStatus].
	Parse func(Answer) error
	// Large lets the body of a 2xx have 64 MiB instead of 1 MiB. The process reads
	// few such bodies at a time.
	Large bool
}

// Answer is a whole HTTP answer. Its body is decompressed and bounded, see
// [Call.Large].
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	// Quote returns a text of the answer for an error message: secrets are
	// masked, then it is made one printable line of at most limit characters.
	// Errors must quote an answer in no other way.
	Quote func(text string, limit int) string
}

// OK reports whether the status is a success (2xx).
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Source is one thing with its own refresh interval. A source holds nothing that
// cannot be fetched again, and is not used by two goroutines at once.
type Source interface {
	// Describe returns what the cache has to know of the source. Key, Kind and
	// Interval never change.
	Describe() Description
	// Fetch reads the source, all or nothing. Its errors are [*Error] or wrap
	// the error of the context.
	Fetch(ctx context.Context) (Reading, error)
}

// Description describes a source.
type Description struct {
	// Key is stable over restarts and changes when the source reads something
	// else, so that a stored value is never taken for another. No secret and no
	// personal identifier can be recognised in it.
	Key string
	// Name is the label `subscriber`; empty for a source that is no subscriber.
	Name string
	// Kind is the part of the account that the source belongs to.
	Kind Kind
	// Interval is the refresh interval.
	Interval time.Duration
	// Requests is how many HTTP requests one Fetch sends, logins not counted.
	Requests int
	// Lists is set for a source that finds other sources: its readings have a
	// Roster and no values.
	Lists bool
	// Known are the sources that a list names without a request, until a
	// Reading replaces them. Nil for none.
	Known Roster
	// Restore, if not nil, takes Reading.Kept of the last success, which may be that
	// of an earlier process, and returns the Roster that belongs to it; nil for none.
	// Kept that cannot be understood is an error, and the source starts without it.
	Restore func(kept []byte) (Roster, error)
}

// Roster is the sources that a list names, all of one kind and interval. It is never
// changed. A fleet has millions of sources, so a Roster holds what tells them apart in
// a compact form, and makes a Source for each use of one: what such a source has learned
// is in [Reading.Kept], or is lost.
type Roster interface {
	// Len returns the number of sources.
	Len() int
	// Key returns the Key of source i, 0 to Len-1.
	Key(i int) string
	// Name returns the Name of source i.
	Name(i int) string
	// Source returns source i without anything that Restore would tell it.
	Source(i int) Source
}

// Sources returns the sources of r, which may be nil.
func Sources(r Roster) iter.Seq[Source] {
	return func(yield func(Source) bool) {
		for i := 0; r != nil && i < r.Len(); i++ {
			if !yield(r.Source(i)) {
				return
			}
		}
	}
}

// List is a Roster of a few sources.
type List []Source

// Len implements [Roster].
func (l List) Len() int { return len(l) }

// Key implements [Roster].
func (l List) Key(i int) string { return l[i].Describe().Key }

// Name implements [Roster].
func (l List) Name(i int) string { return l[i].Describe().Name }

// Source implements [Roster].
func (l List) Source(i int) Source { return l[i] }
