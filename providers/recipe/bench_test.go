package recipe_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/all"
	"github.com/balance-exporter/balance_exporter/providers/eightxeight/eightxeightsim"
	"github.com/balance-exporter/balance_exporter/providers/recipe"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
)

// BenchmarkStart is what recipes add to the start: the list of providers, and an account
// of one recipe.
func BenchmarkStart(b *testing.B) {
	text := []byte("accounts:\n- {name: a, provider: telnyx, api_key: secret-key}\n")
	b.ReportAllocs()
	for b.Loop() {
		_, err := config.Parse("c.yml", ".", text, func(string) (string, bool) { return "", false }, all.Known)
		require.NoError(b, err)
	}
}

// BenchmarkLoad40 loads 40 recipes of a configuration file, all expressions compiled, and
// reports the memory that they keep.
func BenchmarkLoad40(b *testing.B) {
	files, err := fs.Glob(recipes.Files, "*.yml")
	require.NoError(b, err)
	var sections []*config.Section
	for i := range 40 {
		text, err := recipes.Files.ReadFile(files[i%len(files)])
		require.NoError(b, err)
		section, err := config.ParseRecipe("r.yml", text)
		require.NoError(b, err)
		sections = append(sections, section)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	loaded := make([]providers.Provider, 40)
	b.ReportAllocs()
	for b.Loop() {
		for i, s := range sections {
			if loaded[i], err = recipe.New(s); err != nil {
				b.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/1e6, "kept-MB")
	runtime.KeepAlive(loaded)
}

// source returns the source of a kind of an account.
func source(b *testing.B, kind providers.Kind, text string, http providers.HTTP) providers.Source {
	b.Helper()
	file, err := config.Parse("c.yml", ".", []byte(text), func(string) (string, bool) { return "", false }, all.Known)
	require.NoError(b, err)
	account, err := file.Accounts[0].Configure(file.Accounts[0].Section)
	require.NoError(b, err)
	sources, err := account.Open(providers.Env{HTTP: http})
	require.NoError(b, err)
	for _, s := range sources {
		if s.Describe().Kind == kind {
			return s
		}
	}
	b.Fatal("no source")
	return nil
}

// fixed answers each call with a body.
type fixed []byte

func (f fixed) Mask(string) {}

func (f fixed) Do(_ context.Context, call providers.Call) error {
	if _, err := call.Authorize(); err != nil {
		return err
	}
	return call.Parse(providers.Answer{Status: 200, Header: http.Header{}, Body: f, Quote: providers.OneLine})
}

func BenchmarkBalance(b *testing.B) {
	s := source(b, providers.KindBalance, "accounts:\n- {name: a, provider: telnyx, api_key: secret-key}\n",
		fixed(`{"data":{"record_type":"balance","balance":"31.07","credit_limit":"5.00","available_credit":"36.07","pending":"0.40","currency":"USD"}}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Fetch(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrices reads 50 000 rows: as the 8x8 client does, and by recipes of the same
// list and of a flat one.
func BenchmarkPrices(b *testing.B) {
	const rows = 50_000
	var nested, flat bytes.Buffer
	require.NoError(b, eightxeightsim.WriteSynthetic(&nested, rows))
	flat.WriteString(`{"prices":[`)
	for i := range rows {
		fmt.Fprintf(&flat, `{"country":"%c%c","mcc":"%03d","mnc":"%03d","operator":"Operator %d","price":0.0%d,"currency":"USD"},`, 'A'+i%26, 'A'+i/26%26, i/1000, i%1000, i, 1000+i)
	}
	flat.Truncate(flat.Len() - 1)
	flat.WriteString(`]}`)
	const account = "accounts:\n- {name: a, provider: PROVIDER, account_id: 0f0e0d0c-0000-4000-8000-000000000001, api_key: secret-key}\n"
	const list = account + `recipes:
- name: list
  base_url: https://api.example
  settings: [account_id]
  secrets: [api_key]
  prices:
    request: {path: "/{account_id}", headers: {Authorization: "{api_key}"}}
    value: VALUE
`
	for name, c := range map[string]struct {
		text string
		body []byte
	}{
		"8x8": {strings.Replace(account, "PROVIDER", "8x8", 1), nested.Bytes()},
		"same list": {strings.NewReplacer("PROVIDER", "list", "VALUE",
			`'.subAccounts[] | .outbound.countries[] | .alpha2Code as $c | .operators[] | .operatorName as $o | .price as $p | .hni[] | {country: $c, mcc, mnc, operator: $o, amount: $p.amount, currency: $p.currency}'`).Replace(list), nested.Bytes()},
		"flat list": {strings.NewReplacer("PROVIDER", "list", "VALUE", `'.prices[] | {country, mcc, mnc, operator, amount: .price, currency}'`).Replace(list), flat.Bytes()},
	} {
		b.Run(name, func(b *testing.B) {
			s := source(b, providers.KindPrices, c.text, fixed(c.body))
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				reading, err := s.Fetch(b.Context())
				require.NoError(b, err)
				require.Greater(b, len(reading.Prices), rows*9/10)
			}
		})
	}
}
