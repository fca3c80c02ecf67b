package exporter

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipesim"
)

// peers are exporters of one provider, and the recipe that does their work.
var peers = [][2]string{
	{"pzinovkin/nexmo_exporter", "vonage"},
	{"roaldnefs/messagebird_exporter", "messagebird"},
	{"roidelapluie/octopush_exporter", "octopush_dm"},
	{"simpledotorg/alphasms_exporter", "alphasms"},
	{"xxxcoltxxx/smsc-balance-exporter", "smsc"},
	{"bagechashu/twilio-prometheus-exporter", "twilio"},
}

// The work of each of the peers is an account of at most five lines. docs/recipes.md shows
// it with the series; -update writes them.
func TestInPlaceOfOtherExporters(t *testing.T) {
	var table strings.Builder
	for _, peer := range peers {
		synctest.Test(t, func(t *testing.T) {
			c := recipesim.Named(peer[1])[0]
			provider, _ := alltest.Provider(peer[1])
			api := c.Open(nil)
			lines := []string{"- name: main", "  provider: " + peer[1]}
			for _, line := range api.Lines(0, 0) {
				if key, _, _ := strings.Cut(line, ":"); key != "balance" && key != "prices" {
					lines = append(lines, "  "+line)
				}
			}
			require.LessOrEqual(t, len(lines), 5)
			servers := map[string]http.Handler{hostOf(t, provider.BaseURL): api.Hosts[""]}
			for name, base := range provider.Hosts {
				servers[hostOf(t, base)] = api.Hosts[name]
			}
			text := benchOf(t, "accounts:\n"+strings.Join(lines, "\n")+"\n", servers).open().exposition()
			var series []string
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "account_balance{") || strings.HasPrefix(line, "account_balance_expires_timestamp_seconds{") {
					series = append(series, strings.TrimSpace(line))
				}
			}
			require.NotEmpty(t, series, text)
			for _, secret := range c.Secrets {
				lines = strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), "'"+secret+"'", "…"), "\n")
			}
			_, _ = fmt.Fprintf(&table, "[%[1]s](https://github.com/%[1]s):\n\n```yaml\n%s\n```\n\n```text\n%s\n```\n\n", peer[0], strings.Join(lines, "\n"), strings.Join(series, "\n"))
		})
	}
	const path, heading = "../../docs/recipes.md", "<!-- generated: peers -->\n\n"
	docs, err := os.ReadFile(path)
	require.NoError(t, err)
	before, _, ok := strings.Cut(string(docs), heading)
	require.True(t, ok)
	want := strings.TrimSpace(before+heading+table.String()) + "\n"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(docs), "run go test ./internal/exporter -run %s -update", t.Name())
}
