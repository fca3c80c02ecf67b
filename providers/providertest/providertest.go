// Package providertest is the conformance suite of the contract in package
// providers: every provider passes it unchanged. It reads accounts through the
// real chain, from the text of a configuration over the provider and
// internal/httpapi to net/http, from a simulated API with all the faults that are
// known from the field, in the fake time of [testing/synctest].
//
// A failed check shows the requests that the account sent, and the answers.
package providertest

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
)

// longForm makes the suite take the time of a thorough run, for CI.
var longForm = os.Getenv("BALANCE_EXPORTER_SLOW") != ""

// inLongForm returns one of two numbers.
func inLongForm(long, short int) int {
	if longForm {
		return long
	}
	return short
}

// sampled reports whether to try the nth of similar cases: in the short form one of
// every, in the long one each.
func sampled(n, every int) bool { return longForm || n%every == 0 }

// Run runs the suite for each case.
func Run(t *testing.T, p providers.Provider, cases ...simulate.Case) {
	run(t, p, cases, testing.Short())
}

// RunQuick is Run without answers of 64 MiB, which take most of the time. It is for a
// provider that shares its code with another one.
func RunQuick(t *testing.T, p providers.Provider, cases ...simulate.Case) {
	run(t, p, cases, true)
}

func run(t *testing.T, p providers.Provider, cases []simulate.Case, quick bool) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // thousands of small worlds
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, check := range checks {
				t.Run(check.name, func(t *testing.T) {
					if err := check.run(t, subject{provider: p, quick: quick, Case: c}); err != nil {
						t.Fatal(err)
					}
				})
			}
		})
	}
}

// subject is what the suite checks.
type subject struct {
	provider providers.Provider
	quick    bool // without answers of 64 MiB
	simulate.Case
	configured configurations // nil if each world configures anew
}

// opener opens a new world and returns it with the source that is checked. It ends
// the worlds that were opened before.
type opener func() (*world, providers.Source)

// check is one part of the suite. One of its functions is set.
type check struct {
	name    string
	account func(t *T, s subject)
	// source checks one source of each type and kind, listed ones included.
	source func(t *T, open opener)
	// restarts is set if each world begins as after a restart, with the configuration.
	restarts bool
}

var checks = []check{
	{name: "sources", account: checkSources, restarts: true},
	{name: "restore", source: checkRestore, restarts: true},
	{name: "good answer", account: checkGoodAnswer},
	{name: "requests", source: checkRequests},
	{name: "gzip", source: checkGzip},
	{name: "connections", source: checkConnections},
	{name: "credentials", source: checkCredentials},
	{name: "statuses", source: checkStatuses},
	{name: "documented errors", source: checkDocumentedErrors},
	{name: "long messages", source: checkLongMessages},
	{name: "rate limited", source: checkRateLimited},
	{name: "own rate limit", account: checkOwnRateLimit},
	{name: "hang", source: checkHang},
	{name: "cancel", source: checkCancel},
	{name: "redirects", source: checkRedirects},
	{name: "secrets", source: checkSecrets},
	{name: "faulty answers", source: checkFaultyAnswers},
	{name: "not whole", source: checkNotWhole},
	{name: "cut answers", source: checkCutAnswers},
	{name: "mutated answers", source: checkMutatedAnswers},
	{name: "drifted answers", source: checkDriftedAnswers},
	{name: "keys that differ in case", source: checkKeysThatDifferInCase},
	{name: "one bad row", source: checkOneBadRow},
	{name: "repeated rows", account: checkRepeatedRows},
	{name: "promised rows", source: checkPromisedRows},
	{name: "endless lists", source: checkEndlessLists},
	{name: "another answer", account: checkAnotherAnswer},
	{name: "invalid UTF-8", source: checkInvalidUTF8},
}

// run returns what the check finds wrong; nil if the provider conforms.
func (c check) run(t *testing.T, s subject) error {
	t.Helper()
	if !c.restarts {
		s.configured = configurations{}
	}
	if c.account != nil {
		return bubble(t, func(t *T) { c.account(t, s) })
	}
	var keys []string
	err := bubble(t, func(t *T) {
		seen := map[string]bool{}
		for _, source := range newWorld(t, s, options{}).sources() {
			d := source.Describe()
			if sort := fmt.Sprintf("%T %s %t", source, d.Kind, d.Lists); !seen[sort] {
				seen[sort] = true
				keys = append(keys, d.Key)
			}
		}
	})
	for _, key := range keys {
		if err != nil {
			break
		}
		err = bubble(t, func(t *T) {
			c.source(t, func() (*world, providers.Source) {
				t.close()
				w := newWorld(t, s, options{})
				return w, w.source(key)
			})
		})
	}
	return err
}
