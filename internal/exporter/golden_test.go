package exporter

import (
	"flag"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipesim"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every documented answer passes through client, cache, collectors and exposition, and
// the whole exposition is compared.
func TestDocumentedAnswers(t *testing.T) {
	kinds := recipesim.Named("messente", "smsc", "telnyx", "thingsmobile", "twilio") // beside those of alltest
	for _, c := range slices.Concat(alltest.Cases(), kinds) {
		for _, sample := range c.Samples {
			t.Run(c.Provider+"/"+sample.Name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					provider, _ := alltest.Provider(c.Provider)
					server := errorsLast(sample)
					servers := map[string]http.Handler{hostOf(t, provider.BaseURL): server}
					for _, base := range provider.Hosts {
						servers[hostOf(t, base)] = server
					}
					b := benchOf(t, accountYAML(c.Provider, "documented", strings.Split(strings.TrimSpace(sample.Config), "\n")), servers)
					golden(t, c.Dir, sample.Name, b.open().exposition())
				})
			})
		}
	}
}

// errorsLast answers with an error when nothing else happens: the error may stop further
// requests of the account.
func errorsLast(next http.Handler) http.Handler {
	turn := make(chan struct{}, 1)
	return simulate.Rewrite(func(_ *http.Request, a simulate.Answer) simulate.Answer {
		if a.Status >= http.StatusBadRequest {
			turn <- struct{}{}
			synctest.Wait()
			<-turn
		}
		return a
	})(next)
}

// Each shape of a price list results in the same metrics.
func TestShapesOfAPriceList(t *testing.T) {
	list := eightxeightsim.FixedPrices(eightxeightsim.SubAccount{
		ID: "marketing",
		Outbound: []eightxeightsim.Country{{
			Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
			Operators: []eightxeightsim.Operator{
				{Name: "SingTel", ID: 525001, HNI: []eightxeightsim.HNI{{MCC: "525", MNC: "01"}, {MCC: "525", MNC: "02"}}, Price: &eightxeightsim.Price{Amount: "0.0520648", Currency: "SGD"}},
				{Name: "No network", ID: 525099, Price: &eightxeightsim.Price{Amount: "0.0136360", Currency: "SGD"}},
			},
		}},
		Inbound: []eightxeightsim.Country{{
			Alpha2Code: "SG", Name: "Singapore", DialingPrefix: "+65",
			NumberTypes: []eightxeightsim.NumberType{{Type: "tollfree", DefaultPrice: &eightxeightsim.Price{Amount: "0.01", Currency: "SGD"}}},
		}},
	}, eightxeightsim.SubAccount{ID: "nothing"})
	for name, form := range map[string]eightxeightsim.Form{
		"example": eightxeightsim.FormExample, "schema": eightxeightsim.FormSchema,
		"flat": eightxeightsim.FormFlat, "mixed": eightxeightsim.FormMixed,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := eightxeightsim.New(eightxeightsim.Options{
					Accounts: []eightxeightsim.Account{{ID: accountOne, APIKey: "key-one-1234", Currency: "SGD", Balance: eightxeightsim.NewBalance("1"), Prices: list}},
					Shape:    eightxeightsim.Shape{Form: form, Tollfree: true},
				})
				b := benchOf(t, accountYAML("8x8", "documented", []string{"account_id: " + accountOne, "api_key: key-one-1234", "balance: {low_threshold: 500}"}),
					map[string]http.Handler{"sms.8x8.com": sim})
				golden(t, "eightxeight", "shapes", b.open().exposition())
			})
		})
	}
}

// accountYAML returns a configuration with one account, with the provider's own part as
// lines.
func accountYAML(provider, name string, lines []string) string {
	return "accounts:\n  - name: " + name + "\n    provider: " + provider + "\n    " + strings.Join(lines, "\n    ") + "\n"
}

// jitter is the end of a back-off, which is random within a few seconds of the start.
var jitter = regexp.MustCompile(`(?m)^(balance_exporter_cooldown_until_timestamp_seconds\{.*\}) 9\.4668.*$`)

// exposition returns the answer to a scrape without metrics about the process, its build,
// its memory and the operations on the state, whose number is an internal matter.
func (b *bench) exposition() string {
	var out strings.Builder
	for line := range strings.Lines(b.get("/metrics", "10").Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		switch {
		case strings.HasPrefix(name, "go_"), strings.HasPrefix(name, "process_"), strings.HasPrefix(name, "promhttp_"),
			strings.HasPrefix(name, "balance_exporter_build_info"), strings.HasPrefix(name, "balance_exporter_exposition_bytes"),
			strings.HasPrefix(name, "balance_exporter_state_request_duration_seconds"):
		default:
			out.WriteString(line)
		}
	}
	return jitter.ReplaceAllString(out.String(), "$1 <soon>")
}

// golden compares got with a golden file in a provider's folder.
func golden(t *testing.T, dir, name, got string) {
	t.Helper()
	path := filepath.Join("..", "..", "providers", dir, "testdata", "golden", name+".prom")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test ./internal/exporter -run %s -update", t.Name())
	assert.Equal(t, string(want), got)
}

// hostOf returns the host of a URL.
func hostOf(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u.Host
}
