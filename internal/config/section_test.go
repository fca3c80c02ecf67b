package config_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

var _ providers.Section = (*config.Section)(nil)

func TestErrorfNamesTheDeepestLineOnThePath(t *testing.T) {
	s, file := section(t, `balance:
  low_threshold: 1
prices:
  networks:
  - mcc: "525"
  - {mcc: "525",
     mnc: "01"}
`, nil)
	for path, want := range map[string]string{
		"":                       "c.yml:2: accounts[0]: is odd",
		"name":                   "c.yml:2: accounts[0].name: is odd",
		"api_key":                "c.yml:2: accounts[0].api_key: is odd",
		"balance":                "c.yml:4: accounts[0].balance: is odd",
		"balance.low_threshold":  "c.yml:5: accounts[0].balance.low_threshold: is odd",
		"balance.max_age":        "c.yml:4: accounts[0].balance.max_age: is odd",
		"prices.networks[0].mnc": "c.yml:8: accounts[0].prices.networks[0].mnc: is odd",
		"prices.networks[1].mnc": "c.yml:10: accounts[0].prices.networks[1].mnc: is odd",
		"prices.networks[2]":     "c.yml:7: accounts[0].prices.networks[2]: is odd",
		"prices.networks.mnc":    "c.yml:7: accounts[0].prices.networks.mnc: is odd",
	} {
		require.EqualError(t, s.Errorf(path, "is %s", "odd"), want)
		require.EqualError(t, file.Accounts[0].Section.Errorf(path, "is %s", "odd"), want)
	}
	s.Warnf("balance", "two\nlines")
	require.Equal(t, []string{`c.yml:4: accounts[0].balance: two\nlines`}, file.Warnings)
}

func TestErrorfHidesSecretsAndEnvironment(t *testing.T) {
	s, _ := section(t, `
api_key: inl1ne-secret
account_id: id-${ID}
balance: {low_threshold: "${N}"}
`, map[string]string{"ID": "fr0m-outside", "N": "-1"})
	require.NoError(t, s.Decode(&struct {
		APIKey    *secret.Value `yaml:"api_key"`
		AccountID string        `yaml:"account_id"`
		Balance   map[string]string
	}{}))
	require.EqualError(t, s.Errorf("account_id", "%q is odd, as is fr0m-outside and inl1ne-secret; -1", "id-fr0m-outside"),
		`c.yml:6: accounts[0].account_id: "id-${ID}" is odd, as is ${ID} and <secret>; -1`)
	require.EqualError(t, s.Errorf("balance.low_threshold", "%v is negative", -1.0),
		`c.yml:7: accounts[0].balance.low_threshold: ${N} is negative`)
}

func TestHas(t *testing.T) {
	s, _ := section(t, "balance: {low_threshold: 0, max_age: }\nprices:\nlist: [1]\n", nil)
	for path, want := range map[string]bool{
		"": true, "name": true, "balance": true, "balance.low_threshold": true, "list[0]": true,
		"balance.max_age": false, "balance.enabled": false, "prices": false, "prices.enabled": false,
		"list[1]": false, "list[-1]": false, "list[x]": false, "list.x": false,
	} {
		require.Equal(t, want, s.Has(path), path)
	}
}

func TestPathIsRelativeToTheFile(t *testing.T) {
	s, _ := section(t, "", nil)
	require.Equal(t, "/etc/exporter/subscribers.csv", s.Path("subscribers.csv"))
	require.Equal(t, "/etc/secret", s.Path("../secret"))
	require.Equal(t, "/run/secret", s.Path("/run/secret"))
	require.Empty(t, s.Path(""))
}

// upper implements the Unmarshaler of yaml.v3, double that of v2.
type (
	upper  string
	double int
)

func (u *upper) UnmarshalYAML(n *yaml.Node) error {
	var texts []string
	if err := n.Decode(&texts); err != nil {
		return errors.New("must be a list of texts")
	}
	*u = upper(strings.ToUpper(strings.Join(texts, "")))
	return nil
}

func (d *double) UnmarshalYAML(unmarshal func(any) error) error {
	var n int
	if err := unmarshal(&n); err != nil {
		return err
	}
	if n < 0 {
		return fmt.Errorf("%d is negative", n)
	}
	*d = double(2 * n)
	return nil
}

type everything struct {
	Text      string
	Int8      int8
	Uint      *int
	Float     float32
	Bool      bool
	Pointer   **string
	List      [][]string
	Map       map[string]float64
	Nested    *struct{ A, B string }
	Inlined   struct{ C string } `yaml:",inline"`
	Upper     upper
	Double    *double
	IP        netip.Addr
	Duration  model.Duration
	Plain     time.Duration
	Prom      model.Duration
	Secrets   []*secret.Value
	Skipped   string `yaml:"-"`
	unwritten string
}

func TestDecodeKnowsManyTypes(t *testing.T) {
	s, _ := section(t, `
text: 007
int8: -0x10
uint: 5
float: 1e3
bool: TRUE
pointer: p
list: [[a, 1], []]
map: {x: 1, "y z": .5}
nested: {b: new}
c: inlined
upper: [a, '${V}']
double: 21
ip: 192.0.2.1
duration: 1d
plain: 1h
prom: 1w
secrets: [s1, 22]
`, map[string]string{"V": "b"})
	uint5, text := 5, "p"
	pointer, doubled := &text, double(42)
	got := everything{Bool: false, Text: "default", unwritten: "kept", Skipped: "kept", List: [][]string{{"default"}, {}, {}}}
	got.Nested = &struct{ A, B string }{"kept", "default"}
	require.NoError(t, s.Decode(&got))
	require.Len(t, got.Secrets, 2)
	require.Equal(t, []string{"s1", "22"}, []string{get(t, got.Secrets[0]), get(t, got.Secrets[1])})
	got.Secrets = nil
	require.Equal(t, everything{
		Text: "007", Int8: -16, Uint: &uint5, Float: 1000, Bool: true, Pointer: &pointer,
		List: [][]string{{"a", "1"}, {}}, Map: map[string]float64{"x": 1, "y z": .5},
		Nested: &struct{ A, B string }{"kept", "new"}, Inlined: struct{ C string }{"inlined"},
		Upper: "AB", Double: &doubled, IP: netip.MustParseAddr("192.0.2.1"),
		Duration: model.Duration(24 * time.Hour), Plain: time.Hour, Prom: model.Duration(7 * 24 * time.Hour),
		Skipped: "kept", unwritten: "kept",
	}, got)
}

func TestDecodeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"int8: 128":                             "c.yml:4: accounts[0].int8: the number is too large or too small",
		"int8: '1'":                             `c.yml:4: accounts[0].int8: expected a whole number, got the text "1"`,
		"float: {}":                             "c.yml:4: accounts[0].float: expected a number, got a mapping",
		"float: 1_000x":                         `c.yml:4: accounts[0].float: expected a number, got the text "1_000x"`,
		"bool: maybe":                           `c.yml:4: accounts[0].bool: expected true or false, got the text "maybe"`,
		"text: [a]":                             "c.yml:4: accounts[0].text: expected a text, got a list",
		"list: {}":                              "c.yml:4: accounts[0].list: expected a list, got a mapping; put - before each item",
		"list: [[a], b]":                        `c.yml:4: accounts[0].list[1]: expected a list, got the text "b"`,
		"list:\n- [a,\n   {}]":                  "c.yml:6: accounts[0].list[0][1]: expected a text, got a mapping",
		"map: []":                               "c.yml:4: accounts[0].map: expected a mapping, got a list",
		"map: {\"a\\n\": x}":                    `c.yml:4: accounts[0].map."a\n": expected a number, got the text "x"`,
		"nested: {c: 1}":                        "c.yml:4: accounts[0].nested.c: unknown key; did you mean a?",
		"nested: {other: 1}":                    "c.yml:4: accounts[0].nested.other: unknown key; known here: a, b",
		"upper: {a: b}":                         "c.yml:4: accounts[0].upper: must be a list of texts",
		"double: -1":                            "c.yml:4: accounts[0].double: -1 is negative",
		"double: x":                             `c.yml:4: accounts[0].double: expected a whole number, got the text "x"`,
		"ip: 1.2.3":                             `c.yml:4: accounts[0].ip: ParseAddr("1.2.3"): IPv4 address too short`,
		"http: {proxy_url: []}":                 "c.yml:4: accounts[0].http.proxy_url: expected a text, got a list",
		"http: {proxy_url: {url: {host: a}}}":   "c.yml:4: accounts[0].http.proxy_url: expected a text, got a mapping",
		"http: {tls_config: text}":              `c.yml:4: accounts[0].http.tls_config: expected a mapping, got the text "text"`,
		"http: {tls_config: {max_version: []}}": "c.yml:4: accounts[0].http.tls_config.max_version: expected a text, got a list",
		"plain: 1":                              `c.yml:4: accounts[0].plain: expected a duration such as 90s, 1h or 1d, got "1"`,
		"duration: []":                          "c.yml:4: accounts[0].duration: expected a duration such as 90s, 1h or 1d, got a list",
		"secrets: [{a: b}]":                     "c.yml:4: accounts[0].secrets[0]: expected a text, got a mapping",
		"skipped: x":                            "c.yml:4: accounts[0].skipped: unknown key; known here: ",
		"Text: x":                               "c.yml:4: accounts[0].Text: unknown key; did you mean text?",
		"text: |\n  a\ntext:":                   "c.yml:6: accounts[0].text: this key is already in line 4; remove one of them",
	} {
		t.Run(text, func(t *testing.T) {
			file, err := parse(text, nil)
			if err == nil {
				err = file.Accounts[0].Section.Decode(&everything{})
			}
			require.ErrorContains(t, err, want)
			if !strings.HasSuffix(want, ": ") {
				require.EqualError(t, err, want)
			}
		})
	}
}

func TestDecodePanicsOnATypeItDoesNotKnow(t *testing.T) {
	s, _ := section(t, "a: 1", nil)
	require.PanicsWithValue(t, "config: cannot decode into a field of type chan int", func() {
		_ = s.Decode(&struct{ A chan int }{})
	})
}

func TestDigestChangesWithEverythingWritten(t *testing.T) {
	const text = "api_key: ${KEY}\nhosts: {auth: 'https://a.example'}\nheaders: {X-Team: ops}\ntimeout: 5s"
	digest := func(text, key string) string {
		s, _ := section(t, text, map[string]string{"KEY": key})
		return s.Digest()
	}
	before := digest(text, "k3y")
	require.Equal(t, before, digest(text+" # comment", "k3y"))
	require.NotContains(t, before, "k3y")
	require.NotEqual(t, before, digest(text, "other"))
	for _, change := range [][2]string{
		{"a.example", "b.example"}, {"auth", "pricing"}, {"ops", "dev"}, {"X-Team", "X-Unit"}, {"5s", "6s"},
		{"api_key", "api_other"}, {"ops}", "ops, X-More: 1}"}, {"\ntimeout: 5s", ""}, {"${KEY}", "x${KEY}"},
	} {
		require.NotEqual(t, before, digest(strings.Replace(text, change[0], change[1], 1), "k3y"), "%v", change)
	}
}

func TestFindsKeysThatNeedQuotes(t *testing.T) {
	s, _ := section(t, "extra:\n  \"a.b[0]\": 1\n  'say \"hi\"': 2", nil)
	require.EqualError(t, s.Errorf(`extra."a.b[0]"`, "is odd"), `c.yml:5: accounts[0].extra."a.b[0]": is odd`)
	require.EqualError(t, s.Errorf(`extra."say \"hi\""`, "is odd"), `c.yml:6: accounts[0].extra."say \"hi\"": is odd`)
}
