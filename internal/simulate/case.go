package simulate

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Case is one kind of account of a simulated provider, with what a test has to
// know of it that iterates over all providers: the conformance suite
// (providers/providertest) and the tests of the whole program. A simulator
// exports its cases as Cases; providers/all/alltest lists them.
type Case struct {
	// Provider is the name of the provider, Name that of the case, unique
	// within its provider.
	Provider, Name string
	// Dir is the provider's folder below providers. Golden files of Samples are
	// in its testdata/golden.
	Dir string
	// Secrets are the secrets of the configuration. Each has characters that
	// encodings change, and is unlike anything in an answer.
	Secrets []string
	// Open returns a new account and its API. With a nil rng they are always the
	// same, as documented, with at least two rows in each list and few of
	// everything; else they have any of the variations that the facts leave open.
	Open func(rng *rand.Rand) Account
	// Values is how many values the readings of all sources of Open(nil) have.
	Values int
	// Endpoints are the kinds of request that the account sends.
	Endpoints []Endpoint
	// Errors are documented error bodies.
	Errors []Error
	// PlainText is set if an answer is a text whose end cannot be recognised.
	PlainText bool
	// AnyKey is set if the keys of an object in an answer are not documented, because
	// each of them is a value.
	AnyKey bool
	// Empty are documented answers without a value, such as that of a postpaid account.
	Empty []string
	// Samples are documented answers.
	Samples []Sample
}

// Account is an account and its API.
type Account struct {
	// Config is the provider's own part of the configuration, one key per line
	// from the first column on, each secret in single quotes. $interval and
	// $max_age stand for the settings of each part; see [Account.Lines].
	Config string
	// Hosts are the servers by the name that the provider has for them; "" is
	// that of the base URL.
	Hosts map[string]http.Handler
	// ExpireTokens makes every token invalid; nil for an API without a login.
	ExpireTokens func()
}

// Lines returns the lines of Config with the given settings.
func (a Account) Lines(interval, maxAge time.Duration) []string {
	text := strings.NewReplacer("$interval", interval.String(), "$max_age", maxAge.String()).Replace(a.Config)
	return strings.Split(strings.TrimSpace(text), "\n")
}

// Endpoint is one kind of request.
type Endpoint struct {
	Name string
	// Host is the name of the server in [Account.Hosts].
	Host string
	// Path matches the path of the requests, and of no others.
	Path *regexp.Regexp
	// Source is the label source of what is read.
	Source string
	// Metric is the name of a metric that has no series of the account without
	// an answer of the endpoint.
	Metric string
	// Login is set for requests for a token.
	Login bool
	// Interval is how often a source asks; 0 is $interval.
	Interval time.Duration
	// Missing is the label reason if the API does not have the endpoint; empty is
	// not_found.
	Missing string
	// Several is set if one refresh of a source may send several requests to the
	// endpoint, such as one for each country.
	Several bool
	// Good reports whether an answer is a success.
	Good func(status int, body []byte) bool
	// Number returns a good body with the JSON text number as its only value;
	// nil if the endpoint has no such answer.
	Number func(number string) string
}

// Error is a documented error body.
type Error struct {
	Endpoint string // name of the endpoint that it answers
	Status   int    // as documented
	Body     string
	Reason   string // the label reason, for this status and for 200
}

// Sample is a set of documented answers, and a handler that gives them to
// requests whose path contains a key; others are answered with 404.
type Sample struct {
	Name string
	// Config is like [Account.Config].
	Config  string
	Answers map[string]Answer
}

// ServeHTTP implements [http.Handler].
func (s Sample) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for part, answer := range s.Answers {
		if strings.Contains(r.URL.Path, part) {
			answer.Write(w)
			return
		}
	}
	http.NotFound(w, r)
}

// Pick returns one of the values, the first if rng is nil.
func Pick[T any](rng *rand.Rand, values ...T) T {
	if rng == nil {
		return values[0]
	}
	return values[rng.IntN(len(values))]
}

// StatusOK is an [Endpoint.Good].
func StatusOK(status int, _ []byte) bool { return status == http.StatusOK }
